"""Restore an environment without a state of its own: reset it and repeat the actions."""

import numpy as np

from worldblocks.envs.record import Environment, NotRestored, Step
from worldblocks.spaces import split_action


class ActionLog:
    """The actions of one environment since its reset: a float32 array that doubles when full."""

    def __init__(self, size: int) -> None:
        self._rows = np.empty((64, size), np.float32)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def append(self, action: np.ndarray) -> None:
        """Add one flat action of `size` numbers."""
        if self._used == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._used] = action
        self._used += 1

    def clear(self) -> None:
        """Remove all actions, for a new episode."""
        self._used = 0

    def rows(self) -> np.ndarray:
        """A copy of the actions so far, `time action`."""
        return self._rows[: self._used].copy()

    def replace(self, rows: np.ndarray) -> None:
        """Take over the actions that `rows()` gave.

        Raises:
            ValueError: the actions belong to another action space.
        """
        if rows.ndim != 2 or rows.shape[1] != self._rows.shape[1]:
            raise ValueError(
                f"asked to re-enact actions of shape {rows.shape}; this environment takes "
                f"(steps, {self._rows.shape[1]})"
            )
        self.clear()
        for row in rows:
            self.append(row)


def reenact(environment: Environment, seed: int, actions: np.ndarray) -> Step | None:
    """Reset with `seed`, repeat `actions` (`time action`), and return the last row.

    Returns None if the episode ends before the actions do: it is a different episode.
    """
    step = environment.reset(seed)
    for action in actions:
        if step.is_last:
            return None
        step = environment.step(split_action(environment.action, action))
    return step


def restore(
    environment: Environment, state: bytes | None, seed: int, actions: np.ndarray, row: Step
) -> str:
    """Bring an environment back to `row`, by its state or by `reenact`; the error, or ""."""
    if state is not None:
        try:
            environment.set_state(state)
        except NotRestored as cause:
            return f"did not come back to where it was ({cause})"
        return ""
    step = reenact(environment, seed, actions)
    part = "its episode ended early" if step is None else _difference(step, row)
    return f"did not re-enact its episode: after {len(actions)} actions {part}" if part else ""


def _difference(step: Step, row: Step) -> str:
    """The first part of `step` that differs from `row`; "" if none does."""
    for key, value in row.obs.items():
        if not np.array_equal(step.obs[key], value):
            return f"the observation {key!r} differs"
    if np.float32(step.reward) != row.reward:
        return f"the reward is {step.reward}, not {row.reward}"
    return "the episode ended" if step.is_last else ""
