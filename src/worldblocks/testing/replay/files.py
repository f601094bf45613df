"""Promises about a replay that is saved."""

import json
import tempfile
from pathlib import Path

from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import expect, expect_equal
from worldblocks.testing.replay.case import Case, Sizes, flags, promise, row, sizes


@promise(
    "resumes",
    "A replay that loads what another saved draws the same windows, also after more rows.",
    "what the manifest holds: rows, the queue, and the state of the random numbers",
)
def resumes(case: Case) -> None:
    case.needs("save", "load")

    def body(size: Sizes) -> None:
        replay, told = case.empty(size), flags(size._replace(rows=size.rows + 3))
        for time in range(size.rows):
            replay.add(**row(size, time, told))
        replay.sample(3)
        with tempfile.TemporaryDirectory() as folder:
            manifest = json.loads(json.dumps(replay.save(Path(folder))))
            other = case.empty(size, seed=5)
            other.load(Path(folder), manifest)
            for time in range(size.rows, size.rows + 3):
                ours, theirs = other.sample(4), replay.sample(4)
                what = "a loaded replay drew other windows"
                expect_equal(ours.obs["which"], theirs.obs["which"], what, allowed=0.0)
                expect_equal(ours.carry, theirs.carry, "… with other carries", allowed=0.0)
                what = f"a loaded replay counts {len(other)} windows, the saved one {len(replay)}"
                expect(len(other) == len(replay), what)
                for one in (other, replay):
                    one.add(**row(size._replace(rows=size.rows + 3), time, told))

    for_all(sizes(), body, share=0.5)
