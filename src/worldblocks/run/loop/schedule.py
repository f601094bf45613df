"""When to train and when to log: deterministic functions of the step."""

from fractions import Fraction
from typing import Any


class Ratio:
    """Gradient updates due per step; the recipes count actions as steps.

    After a call at `step`, `1 + floor((step - first) * ratio)` updates have been granted in total,
    where `first` is the step of the first call. That call grants exactly one update; the steps
    before it are not made up for. Update k therefore sees the steps up to `first + k / ratio`,
    however the calls are spaced. The ratio is kept as a fraction, so rounding errors do not
    accumulate; 0 never grants an update.

    Source: train ratio of DreamerV3, which counts replayed steps: `ratio` here is
    train ratio / (batch size * batch length).

    >>> ratio = Ratio(0.5)
    >>> [ratio(step) for step in (1000, 1001, 1002, 1003, 1013)]
    [1, 0, 1, 0, 5]
    """

    def __init__(self, ratio: float | Fraction) -> None:
        """Args: ratio: updates per step, at least 0."""
        if not 0 <= ratio < float("inf"):
            raise ValueError(f"a ratio is a finite number of updates per step >= 0, got {ratio}")
        self.ratio = Fraction(ratio).limit_denominator(10**9)
        self._first: int | None = None
        self._granted = 0

    def __call__(self, step: int) -> int:
        """The number of updates to make now, at step `step`."""
        if self.ratio == 0:
            return 0
        if self._first is None:
            self._first = step
        due = 1 + int((step - self._first) * self.ratio)
        updates = max(0, due - self._granted)
        self._granted += updates
        return updates

    def state_dict(self) -> dict[str, Any]:
        """The step of the first call and the number of updates granted, for a checkpoint."""
        return {"first": self._first, "granted": self._granted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._first, self._granted = state["first"], state["granted"]


class Every:
    """True once every `n` steps: on the first call at or past each of n, 2n, 3n, …

    A call that passes several multiples is True once. `n <= 0` is never True.

    >>> log = Every(10)
    >>> [step for step in (0, 4, 8, 12, 16, 20, 45, 49, 50) if log(step)]
    [12, 20, 45, 50]
    """

    def __init__(self, n: int) -> None:
        """Args: n: steps between events."""
        self.n = n
        self._passed = 0

    def __call__(self, step: int) -> bool:
        """Whether a multiple of `n` was reached since the last call that returned True."""
        if self.n <= 0 or step // self.n <= self._passed:
            return False
        self._passed = step // self.n
        return True

    def state_dict(self) -> dict[str, Any]:
        """The number of multiples passed, for a checkpoint."""
        return {"passed": self._passed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._passed = state["passed"]
