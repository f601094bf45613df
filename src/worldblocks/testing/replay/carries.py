"""Promises about stored carries."""

from typing import Any

import torch

from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import expect_equal
from worldblocks.testing.replay.case import Case, Sizes, carry_of, promise, row, sizes, uniform

BEFORE = "the row that the carry is taken from: the one before row 0 of the window"


@promise("carry-of-the-row-before", "A window continues from the carry of the row before.", BEFORE)
def carry_of_the_row_before(case: Case) -> None:
    def body(size: Sizes) -> None:
        size = size._replace(context=1, rows=size.rows + 1)
        batch = uniform(case.filled(size), 16)
        expected = carry_of(batch.obs["which"][:, 0] - size.streams)
        what = "the carry of a window is not that of the row before it"
        expect_equal(batch.carry, expected, what, allowed=0.0)

    for_all(sizes(), body, share=0.5)


@promise(
    "writes-back",
    "A later window continues from the carry that was written back; no other carry changes.",
    "the slot of a row: its time and stream, and the test that it is still stored",
)
def writes_back(case: Case) -> None:
    case.needs("write_back")

    def body(size: Sizes) -> None:
        size = size._replace(context=1, rows=size.rows + 1)
        replay = case.filled(size)
        batch = uniform(replay, 5)
        replay.write_back(batch.row, carry_of(batch.obs["which"] + 10_000))
        written = set(batch.obs["which"].flatten().tolist())
        what = "after carries were written back, a window continues from another one"
        expect_written(uniform(replay, 40), size, written, what)

    for_all(sizes(), body, share=0.5)


def expect_written(batch: Any, size: Sizes, written: set[int], what: str) -> None:
    """Raise unless each window continues from its written carry, or else its first one."""
    before = (batch.obs["which"][:, 0] - size.streams).tolist()
    expected = torch.tensor([which + 10_000 * (which in written) for which in before])
    expect_equal(batch.carry, carry_of(expected), what, allowed=0.0)


@promise(
    "writes-back-what-is-kept",
    "A carry is dropped if its row was evicted in the meantime.",
    "the slot of an evicted row, which belongs to another row by now",
)
def writes_back_what_is_kept(case: Case) -> None:
    case.needs("write_back")
    for more in (1, 3, 7):
        size = Sizes(share=4, streams=2, length=2, context=1, rows=12 + more, flags=0)
        replay = case.empty(size)
        for time in range(12):
            replay.add(**row(size, time))
        batch = uniform(replay, 20)
        for time in range(12, size.rows):
            replay.add(**row(size, time))
        replay.write_back(batch.row, carry_of(batch.obs["which"] + 10_000))
        written = set(batch.obs["which"].flatten().tolist())
        what = f"carries written back {more} rows late went to other rows"
        expect_written(uniform(replay, 60), size, written, what)
