"""Failures of workers, and the limit on their number."""

from typing import NamedTuple


class Failure(NamedTuple):
    """One failure of an environment in a worker.

    Attributes:
        env: index of the environment.
        step: number of rows that the vector had returned before.
        what: what happened, as the end of a sentence: "was killed by SIGKILL".
        traceback: traceback of the environment as text; empty if there is none.
    """

    env: int
    step: int
    what: str
    traceback: str

    def __str__(self) -> str:
        return f"environment {self.env} at step {self.step} {self.what}"


class FailureWindow:
    """The failures of the last `window` steps; more than `most` of them set `stopped`.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, most: int, window: int) -> None:
        if most < 0 or window < 1:
            raise ValueError(
                f"EnvVector got max_failures={most}, window={window}; it takes max_failures of 0 "
                f"or more and a window of 1 or more steps"
            )
        self._most, self._window = most, window
        self._recent: list[Failure] = []
        self.stopped = ""

    def add(self, failure: Failure) -> None:
        """Count a failure."""
        oldest = failure.step - self._window
        self._recent = [one for one in self._recent if one.step > oldest] + [failure]
        if len(self._recent) > self._most and not self.stopped:
            traces = [one.traceback for one in self._recent if one.traceback]
            self.stopped = (
                f"{failure}: {len(self._recent)} failures in the last {self._window} steps, more "
                f"than max_failures={self._most} allows; fix the environment, or raise "
                f"max_failures.\n" + (f"The last traceback:\n{traces[-1]}" if traces else "")
            )

    def clear(self) -> None:
        """Forget all failures."""
        self._recent, self.stopped = [], ""
