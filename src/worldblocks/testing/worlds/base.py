"""The base class of the known-answer environments, and checks of their arguments."""

from abc import ABC, abstractmethod

import numpy as np

from worldblocks.envs import NotRestored, Step
from worldblocks.spaces import Actions, Discrete, Spaces


class World(ABC):
    """An environment (`worldblocks.envs.Environment`) with one action.

    A subclass draws an episode (`_begin`), returns observations (`_observe`) and does an action
    (`_act`). It has no `get_state`: `EnvVector` repeats the actions of the episode instead.
    """

    def __init__(self, observation: Spaces, action: Actions) -> None:
        self.observation, self.action = observation, action
        self._random = np.random.default_rng(0)
        self._time, self._over = 0, True

    def reset(self, seed: int) -> Step:
        """Begin the episode of this seed."""
        self._random = np.random.default_rng(seed)
        self._time, self._over = 0, False
        self._begin()
        return Step(self._observe(), 0.0, is_first=True, is_last=False, is_terminal=False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do an action.

        Raises:
            ValueError: no episode is running, or the action is not in the space.
        """
        if self._over:
            raise ValueError(
                f"{type(self).__name__} was asked for a step where no episode runs (before reset() "
                f"or after a row with is_last); call reset(seed) first"
            )
        reward, is_last, is_terminal = self._act(self._value(action))
        self._time += 1
        self._over = is_last
        return Step(self._observe(), reward, False, is_last, is_terminal)

    def get_state(self) -> bytes | None:
        """None: repeat the actions of the episode instead."""
        return None

    def set_state(self, state: bytes) -> None:
        """Not supported.

        Raises:
            NotRestored: always.
        """
        raise NotRestored(
            f"{type(self).__name__} was asked to continue from {len(state)} bytes; it has no state "
            f"of its own: reset it with the seed of the episode and do its actions again"
        )

    def close(self) -> None:  # noqa: B027
        """Nothing to release."""

    def _begin(self) -> None:  # noqa: B027
        """Draw an episode from `_random`; nothing by default."""

    @abstractmethod
    def _observe(self) -> dict[str, np.ndarray]:
        """The observation of row `_time`."""

    @abstractmethod
    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """Do the action at row `_time`; returns reward, is_last, is_terminal of the next row."""

    def _value(self, action: dict[str, np.ndarray]) -> np.ndarray:
        [(key, space)] = self.action.items()
        value = np.asarray(action.get(key, np.nan))
        right = value.shape == space.shape and bool(np.isfinite(value).all())
        if right and isinstance(space, Discrete):
            right = bool(((value == value.round()) & (value >= 0) & (value < space.classes)).all())
        if not right:
            raise ValueError(
                f"{type(self).__name__} got the action {action}; it takes {key!r}, one value of "
                f"{space}"
            )
        return value


def whole(name: str, what: str, value: int, least: int) -> int:
    """Check an integer of at least `least`."""
    if isinstance(value, bool) or value != int(value) or value < least:
        raise ValueError(f"{name} got {what}={value}; it takes an integer, {least} or more")
    return int(value)


def arm(name: str, best: int, arms: int) -> int:
    """Check the index of an arm."""
    if best not in range(arms):
        raise ValueError(f"{name} got best={best}; it has the arms 0 … {arms - 1}")
    return int(best)
