"""Promises about the carries that are stored with rows."""

import torch

from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import expect_equal
from worldblocks.testing.replay.case import (
    Case,
    Sizes,
    carry_of,
    flags,
    promise,
    row,
    sizes,
    uniform,
)

BEFORE = "the row that a carry is gathered from: the one before row 0 of the window"


@promise(
    "carry-of-the-row-before", "A window continues from the carry of the row before it.", BEFORE
)
def carry_of_the_row_before(case: Case) -> None:
    def body(size: Sizes) -> None:
        size = size._replace(context=1, rows=size.rows + 1)
        batch = uniform(case.filled(size), 16)
        told = carry_of(batch.obs["which"][:, 0] - size.streams)
        what = "the carry of a window is not that of the row before it"
        expect_equal(batch.carry, told, what, allowed=0.0)

    for_all(sizes(), body, share=0.5)


@promise(
    "writes-back",
    "A carry that is written back is the one a later window continues from, and no other changes.",
    "the slot of a row: its time, its stream, and whether it is still kept",
)
def writes_back(case: Case) -> None:
    case.needs("write_back")

    def body(size: Sizes) -> None:
        size = size._replace(context=1, rows=size.rows + 1)
        replay = case.filled(size)
        batch = uniform(replay, 5)
        replay.write_back(batch.row, carry_of(batch.obs["which"] + 10_000))
        written = set(batch.obs["which"].flatten().tolist())
        later = uniform(replay, 40)
        before = (later.obs["which"][:, 0] - size.streams).tolist()
        told = torch.tensor([which + 10_000 * (which in written) for which in before])
        what = "after carries were written back, a window continues from another one"
        expect_equal(later.carry, carry_of(told), what, allowed=0.0)

    for_all(sizes(), body, share=0.5)


@promise(
    "writes-back-what-is-kept",
    "A carry for a row that was evicted since is dropped.",
    "the slot of an evicted row belongs to another row by now",
)
def writes_back_what_is_kept(case: Case) -> None:
    case.needs("write_back")
    for more in (1, 3, 7):
        size = Sizes(share=4, streams=2, length=2, context=1, rows=12 + more, flags=0)
        replay, told = case.empty(size), flags(size)
        for time in range(12):
            replay.add(**row(size, time, told))
        batch = uniform(replay, 20)
        for time in range(12, size.rows):
            replay.add(**row(size, time, told))
        replay.write_back(batch.row, carry_of(batch.obs["which"] + 10_000))
        written = set(batch.obs["which"].flatten().tolist())
        later = uniform(replay, 60)
        before = (later.obs["which"][:, 0] - size.streams).tolist()
        numbers = torch.tensor([which + 10_000 * (which in written) for which in before])
        what = f"carries written back {more} rows late went to other rows"
        expect_equal(later.carry, carry_of(numbers), what, allowed=0.0)
