"""A replay under test, and rows whose every number says which they are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldblocks.testing.promise import NotApplicable, Promises

promise = Promises()
STARTS = "the first and the last start that may be drawn: rows oldest … newest - window + 1"


class Sizes(NamedTuple):
    """Of a replay, and how many rows were added to each stream."""

    share: int  # window starts that a stream keeps
    streams: int
    length: int
    context: int
    rows: int
    flags: int  # seed of them

    @property
    def window(self) -> int:
        """Rows of a window, the one before it counted."""
        return self.length + self.context

    @property
    def oldest(self) -> int:
        """The first row that is still kept."""
        return max(0, self.rows - (self.share + self.window - 1))

    @property
    def starts(self) -> range:
        """Rows at which a window may start."""
        return range(self.oldest, self.rows - self.window + 1)


def sizes() -> Any:
    """Small replays with at least one window, empty, full and gone around."""
    from hypothesis import strategies as st

    def of(drawn: tuple[int, int, int, int, int, int]) -> Sizes:
        share, streams, length, context, more, flags = drawn
        return Sizes(share, streams, length, context, length + context + more, flags)

    parts = st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1)
    return st.tuples(*parts, st.integers(0, 12), st.integers(0, 5)).map(of)


class Flags(NamedTuple):
    """Of all rows that were added, `row stream`."""

    is_first: Tensor
    is_last: Tensor
    is_terminal: Tensor


def flags(size: Sizes) -> Flags:
    """Episodes that begin, end, are cut and are abandoned."""
    generator = torch.Generator().manual_seed(size.flags)
    letter = torch.randint(5, (size.rows, size.streams), generator=generator)  # 0, 1: goes on
    over = letter >= 2
    first = torch.cat([torch.ones_like(over[:1]), over[:-1]])
    return Flags(first, (letter == 2) | (letter == 3), letter == 2)


def row(size: Sizes, time: int, told: Flags) -> dict[str, Any]:
    """The arguments of `add` for one row."""
    which = time * size.streams + torch.arange(size.streams)
    return {
        "obs": {"which": which.clone(), "number": which[:, None].float().repeat(1, 2)},
        "prev_action": (which + 0.5)[:, None].float().repeat(1, 2),
        "reward": which.float(),
        "is_first": told.is_first[time].clone(),
        "is_last": told.is_last[time].clone(),
        "is_terminal": told.is_terminal[time].clone(),
        "carry": carry_of(which),
    }


def carry_of(which: Tensor) -> dict[str, Tensor]:
    """The carry that stands for a number, `*batch` leading."""
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
        replay, told = self.empty(size, seed), flags(size)
        for time in range(size.rows):
            replay.add(**row(size, time, told))
        return replay

    def needs(self, *names: str) -> None:
        """Raise if the replay lacks a method."""
        replay = self.empty(Sizes(2, 1, 2, 0, 3, 0))
        if missing := [name for name in names if not hasattr(replay, name)]:
            raise NotApplicable(f"this replay has no {' and no '.join(missing)}")


def uniform(replay: Any, count: int) -> Any:
    """A batch that is drawn without the online queue, where there is one."""
    return replay.sample(count, online=False) if hasattr(replay, "queued") else replay.sample(count)
