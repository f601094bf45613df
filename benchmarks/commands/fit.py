"""`python -m benchmarks fit`: how much memory an update takes, and on which cards it fits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.commands.report import Reported
from benchmarks.commands.settings import among, ours
from benchmarks.interleave import Outcome, measure
from benchmarks.work import SIZES, Work

BATCHES = ((16, 64), (8, 64), (4, 32))
IMAGES = (64, 96)
KNOBS = ((16, 0), (0, 8), (16, 8))  # imag_last, recompute; at the first batch and image
MEASURED = (("size1m", 4, 32), ("size1m", 8, 64), ("size12m", 4, 32))  # seconds each on one core
QUICK = (("size1m", 4, 32),)


@dataclass(frozen=True, kw_only=True)
class Fit(Reported):
    sizes: str = ""  # joined by commas; all of them by default
    quick: bool = False  # the smallest batch alone, and one measured point

    def check(self) -> None:
        """See `Settings`."""
        super().check()
        among("sizes", self.sizes, list(SIZES))

    def batches(self) -> Sequence[tuple[int, int]]:
        """Windows and rows that are counted."""
        return BATCHES[-1:] if self.quick else BATCHES

    def points(self) -> Sequence[tuple[str, int, int]]:
        """Those that are measured."""
        return QUICK if self.quick else MEASURED

    def planned(self) -> Sequence[str]:
        """The counts, then what is measured."""
        sizes = ", ".join(among("sizes", self.sizes, list(SIZES)))
        cases = len(all_cases(self.batches()))
        points = "; ".join(f"{size}, {batch} × {length}" for size, batch, length in self.points())
        return [f"counted on the meta device: {sizes}; {cases} cases each", f"measured: {points}"]


def figures(options: Fit, skipped: dict[str, str]) -> dict[str, Any]:
    """Counts of every size, a process for each; then measured points, one process after another."""
    sizes = among("sizes", options.sizes, list(SIZES))
    print(f"\nfit: counting {', '.join(sizes)}", flush=True)
    cases = all_cases(options.batches())
    jobs = [
        ours(size, "fit:counted", Work(size=size, threads=options.threads), cases=cases)
        for size in sizes
    ]
    found = counted(run(options, jobs, skipped))
    if not found:
        raise ValueError(f"nothing was counted: {'; '.join(skipped.values())}")
    for size, batch, length in options.points():
        print(f"fit: measuring {size}, {batch} × {length}", flush=True)
        work = Work(size=size, batch=batch, length=length, threads=options.threads)
        found |= measured(run(options, [ours(f"measured {size}", "fit:measured", work)], skipped))
    return found


def run(options: Fit, jobs: Sequence[Any], skipped: dict[str, str]) -> Outcome:
    """Workers that give values and are not timed."""
    outcome = measure(jobs, **options.measuring())
    skipped |= outcome.skipped
    return outcome


def all_cases(batches: Sequence[tuple[int, int]]) -> list[list[int]]:
    """`(image, batch, length, imag_last, recompute)` of every count of a size."""
    plain = [[image, *batch, 0, 0] for image in IMAGES for batch in batches]
    return [*plain, *([IMAGES[0], *batches[0], *knobs] for knobs in KNOBS)]


def counted(outcome: Outcome) -> dict[str, Any]:
    """An entry for each count."""
    found = {}
    for one in outcome.contestants:
        for name, value in one.facts["values"].items():
            image, batch, length, imag_last, recompute = map(int, name.split())
            knobs = [f"imag_last {imag_last}"] if imag_last else []
            knobs += [f"recompute {recompute}"] if recompute else []
            key = [one.job.name, f"{batch}x{length}", str(image), *knobs]
            found["/".join(["counted", *key])] = {
                "group": "counted",
                "size": one.job.name,
                "batch": batch,
                "length": length,
                "image": image,
                "knobs": ", ".join(knobs),
                "unit": "bytes",
                "ours": int(value),
            }
    return found


def measured(outcome: Outcome) -> dict[str, Any]:
    """An entry for each measured point: what the process grew by, and both counts."""
    found = {}
    for one in outcome.contestants:
        work, values = one.job.work, one.facts["values"]
        found[f"measured/{work.size}/{work.batch}x{work.length}"] = {
            "group": "measured",
            "size": work.size,
            "batch": work.batch,
            "length": work.length,
            "unit": "bytes",
            "ours": int(values["grown"]),
            "counted_cpu": int(values["counted cpu"]),
            "counted_meta": int(values["counted meta"]),
            "ratio": ratio(values),
        }
    return found


def ratio(values: Mapping[str, float]) -> float:
    """Measured over counted, of the same device."""
    return round(values["grown"] / values["counted cpu"], 3)
