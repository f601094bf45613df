"""Whole episodes of a policy, and of none."""

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from worldblocks.diagnose import report
from worldblocks.envs import EnvVector, Rows
from worldblocks.replay import MixtureReplay
from worldblocks.run.durable import replace_text
from worldblocks.spaces import Continuous
from worldblocks.tasks.picture import plot_tasks
from worldblocks.tasks.stage import Stage

MAPPED = 500  # states of a task on the map of latents


class Player:
    """A trained agent as a policy of rows: it carries from row to row what `act` wants carried.

    Args:
        act: `act(agent, obs, carry, is_first) -> (action, carry)`.
        agent: what `act` takes; `agent.initial(n)` is the first carry.
        n: environments.
        keep: how many states, or up to twice as many, are kept in `latents`, of all that are met
            at equal distances.
    """

    def __init__(self, act: Callable[..., Any], agent: Any, n: int, *, keep: int = 0) -> None:
        self.act, self.agent, self.carry = act, agent, agent.initial(n)
        self._keep, self._kept = -(-keep // n), []
        self._met, self._every = 0, 1

    def __call__(self, rows: Rows) -> Any:
        """The action of each environment, on the host."""
        action, self.carry = self.act(self.agent, rows.obs, self.carry, rows.is_first)
        if self._keep and self._met % self._every == 0:
            self._kept.append(torch.cat(self.carry.dynamics.parts(), -1).float().cpu())
        if self._keep and len(self._kept) == 2 * self._keep:
            self._kept, self._every = self._kept[::2], 2 * self._every
        self._met += 1
        return action.cpu()

    @property
    def latents(self) -> Float32[torch.Tensor, "batch feature"]:
        """Features of states that were met."""
        return torch.cat(self._kept)


def play_episodes(policy: Callable[[Rows], Any], envs: EnvVector, episodes: int) -> list[float]:
    """Scores of so many episodes, played side by side from a reset on.

    Every environment plays the same number, decided beforehand: counting whichever end first would
    favour short ones.

    Args:
        policy: rows of all environments to a flat action of each, `env action`.
        envs: environments; closed in the end.
        episodes: how many in all.

    Raises:
        ValueError: fewer than one episode.
        RuntimeError: the environments failed too often; with the last traceback.
    """
    if episodes < 1:
        raise ValueError(f"{episodes} episodes were to be played; it takes at least one")
    quota = [len(range(env, episodes, len(envs))) for env in range(len(envs))]
    scores: list[list[float]] = [[] for _ in quota]
    rows = envs.reset()
    while any(len(own) < due for own, due in zip(scores, quota, strict=True)):
        rows = envs.step(policy(rows))
        if envs.stopped:
            raise RuntimeError(envs.stopped)
        for env, score, _ in envs.finished:
            if len(scores[env]) < quota[env]:
                scores[env].append(score)
    envs.close()
    return [one for own in scores for one in own]


def random_policy(envs: EnvVector, seed: int) -> Callable[[Rows], Any]:
    """A policy that draws every action uniformly: numbers in [-1, 1], classes alike.

    Args:
        envs: whose actions.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)

    def policy(_: Rows) -> torch.Tensor:
        parts = []
        for _, space in sorted(envs.action.items()):
            shape = (len(envs), *space.shape)
            if isinstance(space, Continuous):
                part = random.uniform(-1, 1, shape)
            else:
                part = np.eye(space.classes)[random.integers(space.classes, size=shape)]
            parts.append(part.reshape(len(envs), -1))
        return torch.from_numpy(np.concatenate(parts, -1)).float()

    return policy


def judge(
    run: Path | str,
    act: Callable[..., Any],
    agent: Any,
    stage: Stage,
    episodes: int,
    seed: int,
    *,
    envs: int = 10,
    gated: bool = True,
) -> str:
    """Episodes of each task by a random policy and by its agent: `scores.json` and `tasks.png`.

    Args:
        run: the run folder.
        act: as of `Player`.
        agent: has `heads`, and `task(name)` gives the agent of one task.
        stage: where they are played, by the same episodes.
        episodes: of each policy in each task; 0: none, and nothing is written.
        seed: of the run; that of the episodes is a million more.
        envs: played side by side.
        gated: as of `verdict`.

    Returns:
        What `verdict` says.
    """
    judged: dict[str, dict[str, Any]] = {}
    latents = {}
    for task in agent.heads if episodes else ():
        n, far = min(envs, episodes), seed + 1_000_000
        random, same = (stage.envs(task, n, seed=far) for _ in range(2))
        player = Player(act, agent.task(task), len(same), keep=MAPPED)
        scores = {"random": play_episodes(random_policy(random, seed), random, episodes)}
        scores["trained"] = play_episodes(player, same, episodes)
        judged[task] = {name: {"scores": own} for name, own in scores.items()}
        latents[task] = player.latents
    if judged:
        replace_text(Path(run) / "scores.json", json.dumps(judged) + "\n")
        plot_tasks(run, latents=latents)
    return verdict(judged, gated)


def verdict(judged: Mapping[str, Mapping[str, Any]], gated: bool = True) -> str:
    """One line a task: whether its mean score is above the 95th percentile of a random policy's.

    Args:
        judged: by task, `random` and `trained`, each with the `scores` of episodes.
        gated: whether a line is PASS or FAIL; else it is INFO.

    >>> print(verdict({"walk": {"random": {"scores": [1.0, 2.0]}, "trained": {"scores": [3.0]}}}))
    PASS  walk: mean 3 of 1 episodes > 1.95, the 95th percentile of 2 random ones
    """
    lines = []
    for task, scores in judged.items():
        bar = float(np.percentile(scores["random"]["scores"], 95))
        mean = statistics.fmean(scores["trained"]["scores"])
        word, than = ("PASS", ">") if mean > bar else ("FAIL", "not >")
        word = word if gated else "INFO"
        counts = [len(scores[name]["scores"]) for name in ("trained", "random")]
        lines.append(
            f"{word}  {task}: mean {mean:.4g} of {counts[0]} episodes {than} {bar:.4g}, the 95th "
            f"percentile of {counts[1]} random ones"
        )
    return "\n".join(lines)


def reports(
    run: Path | str,
    act: Callable[..., Any],
    agent: Any,
    stage: Stage,
    replay: MixtureReplay,
    steps: int,
    gamma: float,
    *,
    seed: int = 1_000_000,
) -> str:
    """The report of the world model (`wb.diagnose.report`) on held-out rows of each task.

    Each is written into a folder of the task's name in the run folder.

    Args:
        run, act, agent, stage: as of `judge`.
        replay: what the agent was trained on.
        steps: held-out rows of each task; 0: no report.
        gamma: the discount of the agent's values.
        seed: of the episodes; far from those that are trained on.

    Returns:
        The texts.
    """
    texts = []
    for task in agent.heads if steps else ():
        envs = stage.envs(task, 4, seed=seed)
        seen = replay.sample({task: 64}, length=replay[task].length).batch
        folder = Path(run) / task
        folder.mkdir(exist_ok=True)
        known: Any = {"steps": steps, "gamma": gamma, "seen": seen}
        texts.append(f"{task}\n{report(folder, agent.task(task), act, envs, **known)}")
    return "\n".join(texts)
