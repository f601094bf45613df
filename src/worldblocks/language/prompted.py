"""Environments in words: observations are prompts, actions are phrases."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from worldblocks.envs import Environment, Step
from worldblocks.spaces import Actions, Discrete, Spaces
from worldblocks.typing import typed

BABYAI_COMMANDS = {
    "turn left": 0,
    "turn right": 1,
    "go forward": 2,
    "pick up": 3,
    "drop": 4,
    "toggle": 5,
}
"""MiniGrid's actions in GLAM's words; the seventh, `done`, is left out."""


def glam_prompt(
    goal: str, commands: Sequence[str], seen: Sequence[Sequence[str]], done: Sequence[str]
) -> str:
    """The prompt of GLAM: the possible actions, the goal, and recent observations and actions.

    It ends where the next action follows, without a space: the completion starts with one.

    Args:
        goal: the goal.
        commands: the possible actions.
        seen: sentences of each observation, the current one last.
        done: the action after each observation but the last.

    Raises:
        ValueError: `done` is not one shorter than `seen`.

    Source: Carta et al. 2023 (arXiv:2302.02662), appendix on the prompt, and the authors' code.

    >>> glam_prompt("go to the ball", ["turn left", "go forward"], [["You see a wall"]], [])
    'Possible action of the agent: turn left, go forward \\n Goal of the agent: go to the ball \\n \
Observation 0: You see a wall \\n Action 0:'
    """
    if len(seen) != len(done) + 1:
        raise ValueError(
            f"glam_prompt takes one action between two observations, got {len(seen)} "
            f"observations and {len(done)} actions"
        )
    lines = [f"Possible action of the agent: {', '.join(commands)}", f"Goal of the agent: {goal}"]
    for i, sentences in enumerate(seen):
        lines.append(f"Observation {i}: {', '.join(sentences)}")
        lines.append(f"Action {i}:{''.join(f' {action}' for action in done[i : i + 1])}")
    return " \n ".join(lines)


class Prompted:
    """Wraps a described environment: its observation becomes GLAM's prompt.

    The key `prompt` holds the text as UTF-8 bytes, padded with zeros; `read_prompts` decodes it.
    Environment vectors, workers and checkpoints treat it like any other observation.

    Args:
        env: has a `describer` with `describe()` and `mission`, such as `wb.envs.minigrid`.
        commands: the environment's discrete action for each phrase.
        history: number of observations in a prompt.
        length: maximum length of a prompt in bytes.

    Raises:
        ValueError: the action is not a single discrete one, a command is out of its range, nothing
            describes the environment, or the history is empty.
    """

    def __init__(
        self,
        env: Environment,
        commands: Mapping[str, int],
        *,
        history: int = 3,
        length: int = 4096,
    ) -> None:
        choices = [
            (key, range(space.classes))
            for key, space in env.action.items()
            if isinstance(space, Discrete) and not space.shape
        ]
        if not len(choices) == len(env.action) == 1 or not set(commands.values()) <= {
            *choices[0][1]
        }:
            raise ValueError(
                f"Prompted takes an environment with one discrete action, and commands with its "
                f"indices; got the actions {dict(env.action)} and commands {dict(commands)}"
            )
        self._env, self._key, self._length = env, choices[0][0], length
        self._describer: Any = getattr(env, "describer", None)
        if self._describer is None or history < 1:
            raise ValueError(
                f"Prompted takes an environment with a describer, such as wb.envs.minigrid(...), "
                f"and a history of 1 or more; got {type(env).__name__} and history={history}"
            )
        self._commands = dict(commands)
        self._seen: deque[list[str]] = deque(maxlen=history)
        self._done: deque[str] = deque(maxlen=history - 1)
        self.observation: Spaces = {"prompt": Discrete(256, (length,))}
        self.action: Actions = {"command": Discrete(len(commands))}

    def reset(self, seed: int) -> Step:
        """Begin an episode, with an empty history."""
        self._seen.clear()
        self._done.clear()
        return self._shown(self._env.reset(seed))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Take the action of a command, given by index."""
        command = list(self._commands)[int(action["command"])]
        self._done.append(command)
        index = np.asarray(self._commands[command], np.int64)
        return self._shown(self._env.step({self._key: index}))

    def _shown(self, step: Step) -> Step:
        self._seen.append(self._describer.describe())
        goal, commands = self._describer.mission, list(self._commands)
        data = glam_prompt(goal, commands, self._seen, list(self._done)).encode("utf-8")
        if len(data) > self._length:
            raise ValueError(
                f"a prompt has {len(data)} bytes and the observation {self._length}: give Prompted "
                f"a larger length or a shorter history"
            )
        prompt = np.frombuffer(data.ljust(self._length, b"\0"), np.uint8).astype(np.int64)
        return step._replace(obs={"prompt": prompt})

    def get_state(self) -> None:
        """None: an episode is restored by playing its actions again."""

    def set_state(self, state: bytes) -> None:
        """Not supported, since `get_state` returns None."""
        raise ValueError(
            f"asked {self._env} in words to continue from a state; it has none (get_state() is "
            f"None), so reset(seed) and play the actions again"
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


@typed
def read_prompts(prompt: Shaped[Tensor, "*batch length"]) -> list[str]:
    """The texts of the observation `prompt`, one per row.

    >>> import torch
    >>> read_prompts(torch.tensor([[103, 111, 0], [117, 112, 0]]))
    ['go', 'up']
    """
    rows = prompt.reshape(-1, prompt.shape[-1]).cpu().numpy().astype(np.uint8)
    return [row.tobytes().rstrip(b"\0").decode("utf-8") for row in rows]
