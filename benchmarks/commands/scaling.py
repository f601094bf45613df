"""`python -m benchmarks scaling`: how the time of an update grows, knob by knob."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.commands.report import Reported
from benchmarks.commands.settings import among, ours
from benchmarks.commands.sweeps import ENVIRONMENTS, NAMES, Point, Sweep, sweep
from benchmarks.interleave import Contestant, Outcome, measure
from benchmarks.work import SIZES, Work

GIB = 2**30
OVERHEAD = (1.3, 0.4 * GIB)  # of a process over what is counted: a factor, and what torch takes
QUICK = {"batch": (2, 4), "length": (16, 32), "horizon": (5, 15), "envs": (1, 4)}
QUICK_SIZES = ("size1m", "size12m")


@dataclass(frozen=True, kw_only=True)
class Scaling(Reported):
    only: str = ""  # sweeps, joined by commas: batch, length, horizon, memory, size, envs
    quick: bool = False  # few points, two rounds
    size: str = "size1m"  # of the base point, as are the next three
    batch: int = 4
    length: int = 32
    horizon: int = 15
    size_batch: int = 1  # of the sweep "size", whose largest would otherwise take a minute a call
    size_length: int = 16
    memory: float = 0.0  # GiB that the models of the sweep "size" may take; 0: most of what is free
    longest: float = (
        20.0  # seconds of an update, by an estimate, from which on a size is counted alone
    )

    def check(self) -> None:
        """See `Settings`."""
        super().check()
        among("only", self.only, NAMES)
        among("size", self.size, list(SIZES))

    def least(self) -> dict[str, float]:
        """The smallest value of each number."""
        found = {**super().least(), **dict.fromkeys(("batch", "horizon", "size_batch"), 1)}
        found |= dict.fromkeys(("length", "size_length"), 2)
        return {**found, "memory": 0.0, "longest": 0.0}

    def work(self) -> Work:
        """The base point."""
        names = ("threads", "size", "batch", "length", "horizon")
        return Work(**{name: getattr(self, name) for name in names})

    def sweep(self, name: str) -> Sweep:
        """Of updates, by its name; a quick one has few points."""
        base, values = self.work(), QUICK.get(name) if self.quick else None
        if name == "size":
            base = replace(base, batch=self.size_batch, length=self.size_length)
            values = QUICK_SIZES if self.quick else None
        return sweep(name, base, values)

    def turns(self, most: int = 100) -> int:
        """Rounds of a sweep that makes at most so many."""
        return min(self.rounds, most, 2 if self.quick else most)

    def vectors(self) -> tuple[int, ...]:
        """Numbers of environments."""
        return QUICK["envs"] if self.quick else ENVIRONMENTS

    def planned(self) -> Sequence[str]:
        """Each sweep with its points."""
        lines = []
        for name in among("only", self.only, NAMES):
            if name == "envs":
                shown = ", ".join(map(str, self.vectors()))
                lines.append(f"envs: {shown}, without and with workers; {self.turns()} rounds")
                continue
            one = self.sweep(name)
            labels = ", ".join(point.label for point in one.points)
            around = next(point.work for point in one.points if point.label == one.base)
            note = "; all are counted, those that fit memory and --longest timed"
            lines.append(
                f"{name}: {labels}; around {around.words()}; {self.turns(one.rounds)} rounds"
                f"{note if name == 'size' else ''}"
            )
        return lines


def figures(options: Scaling, skipped: dict[str, str]) -> dict[str, Any]:
    """All sweeps, one after another."""
    found: dict[str, Any] = {}
    for name in among("only", options.only, NAMES):
        print(f"\nscaling: {name}", flush=True)
        if name == "envs":
            found |= of_environments(options, skipped)
            continue
        one = options.sweep(name)
        if name != "size":
            found |= of_sweep(one, options, skipped)
            continue
        fewer, values = affordable(one, options, skipped)
        found |= with_counts(one, of_sweep(fewer, options, skipped), values)
    return found


def of_sweep(one: Sweep, options: Scaling, skipped: dict[str, str]) -> dict[str, Any]:
    """Every point, with its ratio to the base point."""
    jobs = [ours(p.label, "scaling:update", p.work, **p.knobs) for p in one.points]
    limits = {**options.measuring(), "rounds": options.turns(one.rounds)}
    outcome = noted(measure(jobs, **limits), one.name, skipped)
    by_label = {c.job.name: c for c in outcome.contestants if c.turns["step"]}
    base = by_label.get(one.base)
    return {
        f"{one.name}/{label}": point_entry(one, contestant, base)
        for label, contestant in by_label.items()
    }


def point_entry(one: Sweep, contestant: Contestant, base: Contestant | None) -> dict[str, Any]:
    """The figures of a point."""
    entry = {
        **described(one, contestant.job.name, contestant.job.work),
        "is_base": contestant is base,
        **record.times("ours", contestant, "step", 1e3),
        "ours_facts": record.facts(contestant, "step"),
    }
    return entry | (record.ratios("step", contestant, base) if base else {"ratio": None})


def described(one: Sweep, label: str, work: Work) -> dict[str, Any]:
    """What every entry of a point begins with."""
    known = {"group": one.name, "case": "step", "title": one.title, "label": label}
    return {**known, "sizes": work.words(), "unit": "ms", "ours": None}


def with_counts(
    one: Sweep, found: dict[str, Any], values: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """The sizes in their order, each with what was counted; some have nothing else."""
    entries = {}
    for point in (point for point in one.points if point.label in values):
        name = f"{one.name}/{point.label}"
        blank = {**described(one, point.label, point.work), "is_base": False, "ratio": None}
        counted = {key: round(value) for key, value in values[point.label].items()}
        entries[name] = {**found.get(name, blank), "counted": counted}
    return entries


Counts = dict[str, dict[str, float]]


def affordable(one: Sweep, options: Scaling, skipped: dict[str, str]) -> tuple[Sweep, Counts]:
    """The sizes that fit memory together and whose update does not take too long; all counts.

    Seconds are estimated by the rate of an update at the base point of the other sweeps: the small
    one of this sweep is mostly the price of operations.
    """
    jobs = [ours(p.label, "scaling:predicted", p.work) for p in one.points]
    jobs.append(ours("time", "scaling:update", options.work()))
    outcome = noted(measure(jobs, **{**options.measuring(), "rounds": 1}), one.name, skipped)
    found = {c.job.name: c for c in outcome.contestants}
    seconds = min(found["time"].turns["step"][0]["wall"])
    rate = found["time"].facts["flops"]["step"] / seconds
    values = {label: c.facts["values"] for label, c in found.items() if label != "time"}
    points = [point for point in one.points if point.label in values]
    free = options.memory * GIB or 0.8 * available()
    return replace(one, points=within(points, values, rate, free, options, skipped)), values


def within(
    points: Sequence[Point],
    values: dict[str, dict[str, float]],
    rate: float,
    free: float,
    options: Scaling,
    skipped: dict[str, str],
) -> list[Point]:
    """Of points from small to large, those that are affordable; why others are not is noted."""
    kept, factor, fixed = [], *OVERHEAD
    for point in points:
        takes = factor * values[point.label]["bytes"] + fixed
        seconds = values[point.label]["flops"] / rate
        if seconds > options.longest:
            why = f"about {seconds:.0f} s an update; --longest {seconds + 1:.0f} includes it"
        elif takes > free:
            why = f"about {takes / GIB:.1f} GiB, beside the smaller ones, is more than --memory"
        else:
            kept.append(point)
            free -= takes
            continue
        skipped[f"{point.label} (size)"] = why
        print(f"counted, not timed: {point.label}: {why}", flush=True)
    return kept


def available(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Bytes of memory that processes may still take; 8 GiB where the system does not say."""
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return float(free[0]) if free else 8.0 * GIB


def of_environments(options: Scaling, skipped: dict[str, str]) -> dict[str, Any]:
    """A step and an action for each number of environments, with workers and without."""
    jobs = [
        ours(label(number, workers), "scaling:environments", options.work(), **arguments)
        for workers in (False, True)
        for number in options.vectors()
        for arguments in [{"number": number, "workers": workers}]
    ]
    limits = {**options.measuring(), "rounds": options.turns()}
    outcome = noted(measure(jobs, **limits), "envs", skipped)
    found = {}
    for one in outcome.contestants:
        for case in one.turns if all(one.turns.values()) else ():
            found[f"envs/{one.job.name}/{case}"] = {
                "group": "envs",
                "case": case,
                "unit": "µs",
                **one.job.arguments,
                **record.times("ours", one, case, 1e6),
                "ours_facts": record.facts(one, case),
            }
    return found


def label(number: int, workers: bool) -> str:
    """Of a vector."""
    return f"{number} {'with' if workers else 'without'} workers"


def noted(outcome: Outcome, name: str, skipped: dict[str, str]) -> Outcome:
    """The outcome, those who failed written down."""
    skipped |= {f"{job} ({name})": why for job, why in outcome.skipped.items()}
    return outcome
