"""Promises about saving and loading."""

import json
import tempfile
from pathlib import Path

from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import expect, expect_equal
from worldblocks.testing.replay.case import Case, Sizes, promise, row, sizes


@promise(
    "resumes",
    "A loaded replay draws the same windows as the saved one, also after more rows.",
    "the manifest: rows, queue, and state of the random numbers",
)
def resumes(case: Case) -> None:
    case.needs("save", "load")

    def body(size: Sizes) -> None:
        more, replay = size._replace(rows=size.rows + 3), case.empty(size)
        for time in range(size.rows):
            replay.add(**row(more, time))
        replay.sample(3)
        with tempfile.TemporaryDirectory() as folder:
            manifest = json.loads(json.dumps(replay.save(Path(folder))))
            other = case.empty(size, seed=5)
            other.load(Path(folder), manifest)
            for time in range(size.rows, more.rows):
                ours, theirs = other.sample(4), replay.sample(4)
                what = "a loaded replay drew other windows"
                expect_equal(ours.obs["which"], theirs.obs["which"], what, allowed=0.0)
                expect_equal(
                    ours.carry, theirs.carry, "a loaded replay drew other carries", allowed=0.0
                )
                what = f"a loaded replay has {len(other)} windows, the saved one {len(replay)}"
                expect(len(other) == len(replay), what)
                for one in (other, replay):
                    one.add(**row(more, time))

    for_all(sizes(), body, share=0.5)
