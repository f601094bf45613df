"""Selectors: which windows make up a batch.

A window of `window` rows that starts at row `start` of a stream ends at row start + window - 1.
Rows oldest … count - 1 of every stream are stored, so the valid starts are oldest … count - window.
A selector returns a stream and a start for each window.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Drawn = tuple[NDArray[np.int64], NDArray[np.int64]]  # stream, start
NONE: Drawn = (np.zeros(0, np.int64), np.zeros(0, np.int64))


class OnlineQueue:
    """Splits every stream into consecutive windows and draws each once, in order of arrival.

    Window k of a stream starts at row 1 + k · window: the reference skips row 0. Streams advance
    together, so window k of all streams is complete at the same time, and entry e of the queue is
    window e // streams of stream e % streams. The whole state is therefore the index of the next
    entry. Entries whose rows have been evicted are skipped.
    """

    def __init__(self, streams: int, window: int) -> None:
        self.streams = streams
        self.window = window
        self.next = 0

    def ready(self, count: int) -> int:
        """Number of complete entries so far: window k needs rows up to (k + 1) · window."""
        return max(0, count - 1) // self.window * self.streams

    def draw(self, size: int, oldest: int, count: int) -> Drawn:
        """At most `size` windows, fewer if the queue runs out."""
        # 1 + k · window >= oldest holds from k = ceil((oldest - 1) / window) on, which equals
        # floor((oldest + window - 2) / window).
        surviving = max(0, oldest + self.window - 2) // self.window
        self.next = max(self.next, surviving * self.streams)
        entries = np.arange(self.next, min(self.next + size, self.ready(count)), dtype=np.int64)
        self.next += len(entries)
        return entries % self.streams, 1 + entries // self.streams * self.window


class Uniform:
    """Draws every valid start of every stream with equal probability, with replacement."""

    def __init__(self, streams: int, seed: int | list[int]) -> None:
        self.streams = streams
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def draw(self, size: int, window: int, oldest: int, count: int) -> Drawn:
        """Exactly `size` windows; there must be a valid start."""
        starts = count - window - oldest + 1
        drawn = self.generator.integers(self.streams * starts, size=size)
        return drawn // starts, oldest + drawn % starts


class Selector:
    """The online queue, the uniform draws, and the windows drawn ahead.

    Windows may be drawn ahead for a batch that is prefetched. They are part of the state, so that a
    resumed run continues with the same batches.
    """

    def __init__(self, streams: int, window: int, seed: int) -> None:
        self.queue = OnlineQueue(streams, window)
        self.uniform = Uniform(streams, [seed, 0])
        self.evaluation = Uniform(streams, [seed, 1])  # so that reports do not change training
        self.ahead = NONE

    def draw(self, size: int, oldest: int, count: int, online: bool) -> Drawn:
        """Exactly `size` windows, from the queue first if `online`; there must be a valid start."""
        queued = self.queue.draw(size, oldest, count) if online else NONE
        missing = size - len(queued[0])
        return _joined(queued, self.uniform.draw(missing, self.queue.window, oldest, count))

    def draw_ahead(self, size: int, oldest: int, count: int, online: bool) -> Drawn:
        """The windows of the next batch: those drawn before that are still stored, completed by new
        ones. They are returned again until `clear_ahead`."""
        stays = self.ahead[1] >= oldest
        stream, start = self.ahead[0][stays][:size], self.ahead[1][stays][:size]
        more = self.draw(size - len(start), oldest, count, online)
        self.ahead = _joined((stream, start), more)
        return self.ahead

    def clear_ahead(self) -> None:
        """Forget the windows drawn ahead, once their batch is returned."""
        self.ahead = NONE

    def state(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "queue": self.queue.next,
            "samplers": [each.generator.bit_generator.state for each in self._uniforms],
            "ahead": [part.tolist() for part in self.ahead],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`. Old states have no windows drawn ahead."""
        self.queue.next = state["queue"]
        stream, start = state.get("ahead", NONE)
        self.ahead = np.array(stream, np.int64), np.array(start, np.int64)
        for each, saved in zip(self._uniforms, state["samplers"], strict=True):
            each.generator.bit_generator.state = saved

    @property
    def _uniforms(self) -> tuple[Uniform, Uniform]:
        return self.uniform, self.evaluation


def _joined(first: Drawn, second: Drawn) -> Drawn:
    if not len(first[0]):  # the common case, and concatenation is slow
        return second
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def check_draw(batch_size: int, length: int, context: int, kept: int, count: int) -> None:
    """Check that windows of `context` + `length` rows can be drawn.

    Streams keep at most `kept` rows and have received `count`.

    Raises:
        ValueError: there is no such window yet, or there can never be one.
    """
    if batch_size < 1 or length < 1:
        raise ValueError(
            f"{batch_size} windows of {length} rows cannot be drawn; both must be at least 1"
        )
    window = length + context
    rows = f"{window} rows (one of them context)" if context else f"{window} rows"
    if window > kept:
        raise ValueError(
            f"windows of {rows} cannot be drawn from a replay that keeps {kept} rows per stream; "
            f"use a larger capacity"
        )
    if window > count:
        raise ValueError(
            f"windows of {rows} cannot be drawn yet: each stream has {count} rows; add "
            f"{window - count} more"
        )
