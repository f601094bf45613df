"""Which windows a batch is made of.

A window of `window` rows that starts at row `start` of a stream ends with its row
start + window - 1. Rows oldest … count - 1 of every stream are stored, so the valid starts are
oldest … count - window. A selector gives a stream and a start for each window it draws.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Drawn = tuple[NDArray[np.int64], NDArray[np.int64]]  # stream, start
NONE: Drawn = (np.zeros(0, np.int64), np.zeros(0, np.int64))


class OnlineQueue:
    """Every stream cut into consecutive windows, each drawn once, in the order they were lived.

    Window k of a stream starts at its row 1 + k · window: the reference leaves out row 0. Streams
    advance together, so window k of all streams is complete at the same moment and entry e of the
    queue is window e // streams of stream e % streams. One number, the next entry, is therefore
    the whole state. Entries whose rows are gone are skipped.
    """

    def __init__(self, streams: int, window: int) -> None:
        self.streams = streams
        self.window = window
        self.next = 0

    def ready(self, count: int) -> int:
        """Entries that were ever complete: window k needs rows up to (k + 1) · window."""
        return max(0, count - 1) // self.window * self.streams

    def draw(self, size: int, oldest: int, count: int) -> Drawn:
        """At most `size` windows, fewer if the queue runs dry."""
        # 1 + k · window >= oldest holds from k = (oldest - 1) / window, rounded up, which is the
        # same as oldest + window - 2 divided and rounded down.
        surviving = max(0, oldest + self.window - 2) // self.window
        self.next = max(self.next, surviving * self.streams)
        entries = np.arange(self.next, min(self.next + size, self.ready(count)), dtype=np.int64)
        self.next += len(entries)
        return entries % self.streams, 1 + entries // self.streams * self.window


class Uniform:
    """Every valid start of every stream, equally likely, with replacement."""

    def __init__(self, streams: int, seed: int | list[int]) -> None:
        self.streams = streams
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def draw(self, size: int, window: int, oldest: int, count: int) -> Drawn:
        """Exactly `size` windows; there must be a valid start."""
        starts = count - window - oldest + 1
        drawn = self.generator.integers(self.streams * starts, size=size)
        return drawn // starts, oldest + drawn % starts


class Selector:
    """All that decides what batches are made of: the queue, the random numbers, what is ahead.

    Windows may be drawn ahead, for a batch that is gathered before it is asked for. They are part
    of the state, so that a saved run goes on with the same batches.
    """

    def __init__(self, streams: int, window: int, seed: int) -> None:
        self.queue = OnlineQueue(streams, window)
        self.uniform = Uniform(streams, [seed, 0])
        self.looks = Uniform(streams, [seed, 1])  # so that a report does not change training
        self.ahead = NONE

    def draw(self, size: int, oldest: int, count: int, online: bool) -> Drawn:
        """Exactly `size` windows, from the queue first if `online`; there must be a valid start."""
        queued = self.queue.draw(size, oldest, count) if online else NONE
        missing = size - len(queued[0])
        return _joined(queued, self.uniform.draw(missing, self.queue.window, oldest, count))

    def draw_ahead(self, size: int, oldest: int, count: int, online: bool) -> Drawn:
        """The windows of the next batch: those drawn before and still stored, and as many more as
        it lacks. They stay drawn until they are handed out."""
        stays = self.ahead[1] >= oldest
        stream, start = self.ahead[0][stays][:size], self.ahead[1][stays][:size]
        more = self.draw(size - len(start), oldest, count, online)
        self.ahead = _joined((stream, start), more)
        return self.ahead

    def handed_out(self) -> None:
        """The windows ahead are in a batch: others are next."""
        self.ahead = NONE

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "queue": self.queue.next,
            "samplers": [draws.generator.bit_generator.state for draws in self._draws],
            "ahead": [part.tolist() for part in self.ahead],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; states of old name no windows ahead."""
        self.queue.next = state["queue"]
        stream, start = state.get("ahead", NONE)
        self.ahead = np.array(stream, np.int64), np.array(start, np.int64)
        for draws, saved in zip(self._draws, state["samplers"], strict=True):
            draws.generator.bit_generator.state = saved

    @property
    def _draws(self) -> tuple[Uniform, Uniform]:
        return self.uniform, self.looks


def _joined(first: Drawn, second: Drawn) -> Drawn:
    if not len(first[0]):  # most often, and to join takes NumPy a while
        return second
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def check_draw(batch_size: int, length: int, context: int, kept: int, count: int) -> None:
    """Whether windows of `length` rows and `context` before can be drawn.

    Streams keep `kept` rows at most and were given `count`.

    Raises:
        ValueError: not yet, or never.
    """
    if batch_size < 1 or length < 1:
        raise ValueError(
            f"{batch_size} windows of {length} rows cannot be drawn; both are at least 1"
        )
    window = length + context
    rows = f"{window} rows (one of them context)" if context else f"{window} rows"
    if window > kept:
        raise ValueError(
            f"windows of {rows} cannot be drawn from a replay that keeps {kept} rows a stream; "
            f"with a larger capacity they could"
        )
    if window > count:
        raise ValueError(
            f"windows of {rows} cannot be drawn yet: each stream has {count} rows; add "
            f"{window - count} more"
        )
