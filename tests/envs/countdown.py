"""A suite of environments in one file, with all that an adapter needs."""

import numpy as np

from worldblocks.envs import Environment, Step
from worldblocks.spaces import Continuous, Discrete

STARTS = {"short": 4, "long": 12}


def countdown(task: str) -> Environment:
    """A task of the suite, `short` or `long`."""
    if task not in STARTS:
        raise ValueError(f"unknown countdown {task!r}; there are {', '.join(STARTS)}")
    return Countdown(STARTS[task])


class Countdown:
    """A number goes down from about `start`; to stop at 0 is rewarded, to miss it is the end."""

    def __init__(self, start: int) -> None:
        self.observation = {"left": Continuous()}
        self.action = {"action": Discrete(2)}  # wait, stop
        self._start, self._left = start, 0

    def reset(self, seed: int) -> Step:
        self._left = self._start + int(np.random.default_rng(seed).integers(8))
        return self._row(0.0, is_first=True)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        self._left -= 1
        stop = bool(action["action"])
        return self._row(float(stop and self._left == 0), is_last=stop or self._left < 0)

    def _row(self, reward: float, is_first: bool = False, is_last: bool = False) -> Step:
        obs = {"left": np.float32(self._left)}
        return Step(obs, reward, is_first, is_last, is_terminal=is_last)

    def get_state(self) -> bytes:
        return str(self._left).encode()

    def set_state(self, state: bytes) -> None:
        self._left = int(state)

    def close(self) -> None:
        pass
