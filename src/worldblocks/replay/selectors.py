"""Selectors: which windows make up a batch.

A window of `window` rows that starts at row `start` of a stream ends at row start + window - 1.
The rows of a stream are numbered in order of arrival; numbers are never reused.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from worldblocks.replay.storage.stored import Stored


class Drawn(NamedTuple):
    """Windows of a batch.

    Attributes:
        stream, start: the stream of each window and its first row.
        weight: importance weight of each window; None if all are 1.
    """

    stream: Int64[ndarray, " batch"]
    start: Int64[ndarray, " batch"]
    weight: Float32[ndarray, " batch"] | None = None

    def part(self, chosen: Any) -> "Drawn":
        """The windows at an index: a slice, a mask or places."""
        weight = None if self.weight is None else self.weight[chosen]
        return Drawn(self.stream[chosen], self.start[chosen], weight)

    def followed_by(self, others: "Drawn") -> "Drawn":
        """These windows, then others."""
        if not len(self.stream):  # the common case, and concatenation is slow
            return others
        weight = None
        if self.weight is not None or others.weight is not None:
            weights = [
                np.ones(len(drawn.stream), np.float32) if drawn.weight is None else drawn.weight
                for drawn in (self, others)
            ]
            weight = np.concatenate(weights)
        stream, start = (np.concatenate(pair) for pair in zip(self[:2], others[:2], strict=True))
        return Drawn(stream, start, weight)


NONE = Drawn(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Selector(Protocol):
    """What `SequenceReplay` asks for the windows of a training batch.

    A selector may have three further methods, which the replay calls if they are there. `stream`
    and `row` are int64 arrays of the same length:

    * `added(stream, row)`: these rows were stored.
    * `evicted(stream, row)`: these rows were overwritten.
    * `update(stream, row, value)`: `SequenceReplay.update` was called with a number for each of
      these rows, for example a temporal-difference error. Rows that are no longer stored are left
      out. With `context = 1`, row 0 of a batch is the row after the start that was drawn.
    """

    def draw(self, size: int, window: int, stored: Stored) -> Drawn:
        """Exactly `size` windows of `window` rows; at least one stream has a valid start.

        `OnlineFirst` also asks for 0 windows, to learn whether they have weights.
        """
        ...

    def state(self) -> Any:
        """The state as JSON values, from which `load` continues exactly."""
        ...

    def load(self, state: Any) -> None:
        """The inverse of `state`."""
        ...


class Uniform:
    """Draws every valid start of every stream with equal probability, with replacement."""

    def __init__(self, seed: int | list[int] = 0) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def draw(self, size: int, window: int, stored: Stored) -> Drawn:
        """As `Selector.draw`."""
        starts = stored.starts(window)
        until = starts.cumsum()  # number of valid starts of all streams up to this one
        drawn = self._generator.integers(until[-1], size=size)
        stream = until.searchsorted(drawn, side="right")
        return Drawn(stream, drawn - (until - starts - stored.oldest)[stream])

    def state(self) -> Any:
        """As `Selector.state`."""
        return self._generator.bit_generator.state

    def load(self, state: Any) -> None:
        """As `Selector.load`."""
        self._generator.bit_generator.state = state


class OnlineFirst:
    """Draws new experience once, in order of arrival, then completes the batch by another selector.

    Every stream is split into consecutive windows. Window k of a stream starts at row
    1 + k · window: the reference skips row 0. Windows with a lower k come first, and of equal k
    those of the first streams. Windows that are no longer stored are skipped.

    Args:
        then: the selector that completes a batch.

    Source: the online queue of DreamerV3's released code.
    """

    def __init__(self, then: Selector) -> None:
        self.then = then
        self._next = np.zeros(0, np.int64)  # next k of each stream

    def __getattr__(self, name: str) -> Any:
        """The optional methods of `then`, where it has them."""
        if name in ("added", "evicted", "update"):
            return getattr(self.then, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def draw(self, size: int, window: int, stored: Stored) -> Drawn:
        """As `Selector.draw`."""
        queued = self._queued(size, window, stored)
        missing = size - len(queued.stream)
        return queued.followed_by(self.then.draw(missing, window, stored))

    def waiting(self, window: int, stored: Stored) -> Int64[ndarray, " stream"]:
        """Number of complete windows of each stream that were not drawn yet.

        Includes those that are no longer stored until a draw skips them.
        """
        if not len(self._next):
            self._next = np.zeros_like(stored.count)
        # Window k needs the rows up to (k + 1) · window.
        return np.maximum((stored.count - 1) // window - self._next, 0)

    def _queued(self, size: int, window: int, stored: Stored) -> Drawn:
        """At most `size` windows, fewer if there are no more."""
        if not self.waiting(window, stored).any():
            return NONE
        # 1 + k · window >= oldest holds from k = ceil((oldest - 1) / window) on, which equals
        # floor((oldest + window - 2) / window).
        self._next = np.maximum(self._next, (stored.oldest + window - 2) // window)
        waiting = np.minimum(self.waiting(window, stored), size)
        stream = np.arange(len(waiting)).repeat(waiting)
        place = np.arange(len(stream)) - (waiting.cumsum() - waiting)[stream]  # in its stream
        k = self._next[stream] + place
        first = np.lexsort((stream, k))[:size]
        stream, k = stream[first], k[first]
        self._next = self._next + np.bincount(stream, minlength=len(waiting))
        return Drawn(stream, 1 + k * window)

    def state(self) -> Any:
        """As `Selector.state`."""
        return {"next": self._next.tolist(), "then": named_state(self.then)}

    def load(self, state: Any) -> None:
        """As `Selector.load`."""
        load_named(self.then, state["then"])
        self._next = np.array(state["next"], np.int64)


def named_state(selector: Selector) -> dict[str, Any]:
    """The state of a selector and the name of its class."""
    return {"selector": type(selector).__name__, "state": selector.state()}


def load_named(selector: Selector, saved: dict[str, Any]) -> None:
    """The inverse of `named_state`.

    Raises:
        ValueError: the state is that of another class.
    """
    name = type(selector).__name__
    if saved["selector"] != name:
        raise ValueError(
            f"the saved replay was drawn from by {saved['selector']}, and this one has {name}; "
            f"load it into one with that selector, or read its rows with SequenceReplay.open"
        )
    selector.load(saved["state"])
