"""A replay under test, and rows whose numbers identify them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldblocks.testing.promise import NotApplicable, Promises

promise = Promises()
STARTS = "the first and last start that can be drawn: rows oldest … newest - window + 1"


class Sizes(NamedTuple):
    """The sizes of a replay and the number of rows added to each stream."""

    share: int  # window starts stored per stream
    streams: int
    length: int
    context: int
    rows: int
    flags: int  # seed of the episode flags

    @property
    def window(self) -> int:
        """Rows of a window, including the context."""
        return self.length + self.context

    @property
    def oldest(self) -> int:
        """The oldest row still stored."""
        return max(0, self.rows - (self.share + self.window - 1))

    @property
    def starts(self) -> range:
        """Rows at which a window may start."""
        return range(self.oldest, self.rows - self.window + 1)


def sizes() -> Any:
    """Small replays with at least one window, some of them full or wrapped around."""
    from hypothesis import strategies as st

    def of(drawn: tuple[int, int, int, int, int, int]) -> Sizes:
        share, streams, length, context, more, flags = drawn
        return Sizes(share, streams, length, context, length + context + more, flags)

    parts = st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1)
    return st.tuples(*parts, st.integers(0, 12), st.integers(0, 5)).map(of)


class Flags(NamedTuple):
    """The flags of all rows added, `row stream`."""

    is_first: Tensor
    is_last: Tensor
    is_terminal: Tensor


@functools.cache
def flags(size: Sizes) -> Flags:
    """Random flags: terminals, time limits, and abandoned episodes."""
    generator = torch.Generator().manual_seed(size.flags)
    letter = torch.randint(5, (size.rows, size.streams), generator=generator)  # 0, 1: no end
    over = letter >= 2
    first = torch.cat([torch.ones_like(over[:1]), over[:-1]])
    return Flags(first, (letter == 2) | (letter == 3), letter == 2)


def row(size: Sizes, time: int) -> dict[str, Any]:
    """The arguments of `add` for one row."""
    marks = flags(size)
    which = time * size.streams + torch.arange(size.streams)
    return {
        "obs": {"which": which.clone(), "number": which[:, None].float().repeat(1, 2)},
        "prev_action": (which + 0.5)[:, None].float().repeat(1, 2),
        "reward": which.float(),
        "is_first": marks.is_first[time].clone(),
        "is_last": marks.is_last[time].clone(),
        "is_terminal": marks.is_terminal[time].clone(),
        "carry": carry_of(which),
    }


def carry_of(which: Tensor) -> dict[str, Tensor]:
    """The carry that encodes a row number, `*batch` leading."""
    return {"number": which.clone(), "deter": which[..., None].float().repeat_interleave(2, -1)}


class Case:
    """Makes replays and fills them."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def empty(self, size: Sizes, seed: int = 0) -> Any:
        """A replay without rows."""
        capacity = size.share * size.streams
        numbers = {"streams": size.streams, "length": size.length, "context": size.context}
        return self.make(capacity=capacity, seed=seed, **numbers)

    def filled(self, size: Sizes, seed: int = 0) -> Any:
        """A replay with all rows added."""
        replay = self.empty(size, seed)
        for time in range(size.rows):
            replay.add(**row(size, time))
        return replay

    def needs(self, *names: str) -> None:
        """Skip the promise if the replay lacks a method."""
        replay = self.empty(Sizes(2, 1, 2, 0, 3, 0))
        if missing := [name for name in names if not hasattr(replay, name)]:
            raise NotApplicable(f"this replay has no {' and no '.join(missing)}")

    def needs_queue(self) -> None:
        """Skip the promise if the replay or its selector has no online queue."""
        self.needs("queued")
        selector = getattr(self.empty(Sizes(2, 1, 2, 0, 3, 0)), "selector", None)
        if selector is not None and not hasattr(selector, "waiting"):
            raise NotApplicable(f"{type(selector).__name__} has no online queue")


def uniform(replay: Any, count: int) -> Any:
    """A batch drawn uniformly, once the online queue is empty."""
    if queued := getattr(replay, "queued", 0):
        replay.sample(queued)
    return replay.sample(count)
