"""Bringing an environment without a state of its own back to where it was: play it again."""

import numpy as np

from worldblocks.envs.record import Environment, NotRestored, Step
from worldblocks.spaces import split_action


class ActionLog:
    """The actions of one environment since its reset: a float32 array that doubles as it fills."""

    def __init__(self, size: int) -> None:
        self._rows = np.empty((64, size), np.float32)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def append(self, action: np.ndarray) -> None:
        """Remember one flat action of `size` numbers."""
        if self._used == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._used] = action
        self._used += 1

    def clear(self) -> None:
        """Forget all: a new episode begins."""
        self._used = 0

    def rows(self) -> np.ndarray:
        """A copy of the actions so far, `time action`."""
        return self._rows[: self._used].copy()

    def replace(self, rows: np.ndarray) -> None:
        """Take over the actions that `rows()` gave.

        Raises:
            ValueError: they are of another action space.
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
    """Reset with `seed`, do `actions` (`time action`) again, and give the row this leads to.

    None if the episode ends before the actions do: it is another one already.
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
    """Bring an environment back to `row`, by its state or by `reenact`; what went wrong, or ""."""
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
    """Which part of a row is not what it was."""
    for key, value in row.obs.items():
        if not np.array_equal(step.obs[key], value):
            return f"the observation {key!r} differs"
    if np.float32(step.reward) != row.reward:
        return f"the reward is {step.reward}, not {row.reward}"
    return "the episode ended" if step.is_last else ""
