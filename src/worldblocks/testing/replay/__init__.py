"""Promises of sequence replay."""

from collections.abc import Callable
from typing import Any

from worldblocks.testing.promise import Names, Report
from worldblocks.testing.replay import carries, draws, files, windows
from worldblocks.testing.replay.case import Case, promise

ROOMS = (windows, draws, carries, files)
promise.order(ROOMS)


@promise.check
def check_replay(
    make: Callable[..., Any],
    *,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a replay of sequences by the interface of `worldblocks.replay.SequenceReplay`.

    It needs `add`, `sample`, `len` and batches of type `worldblocks.replay.Batch`. An online queue
    (`queued`, its number of windows), `write_back`, `save` and `load` are tested where they exist.
    Where a selector of your own does not draw every window equally often, leave out `every-start`,
    `draws-are-even` and `draws-are-independent`. Create the replay without `prefetch`, which draws
    a batch before the rows that are added next.

    Args:
        make: `make(capacity=, streams=, length=, context=, seed=)` returns an empty replay.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make), make, only, skip)
