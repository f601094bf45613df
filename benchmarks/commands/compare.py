"""`python -m benchmarks compare BASE [HEAD]`: has a commit become slower than another?"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from benchmarks import measure as measuring
from benchmarks import record
from benchmarks.commands.checkouts import checkout, resolve
from benchmarks.commands.settings import Settings, among, parsed
from benchmarks.groups import GROUPS
from benchmarks.interleave import Contestant, Outcome, measure
from benchmarks.jobs import ROOT, Job
from benchmarks.options import Options
from benchmarks.summary import ratio, summarise
from benchmarks.tables import Table, aligned, number

ABOUT = """Two commits measured in one run, in turns. The exit code is 1 where the second is
slower than the first by more than the tolerance, in the median and in three quarters of the
rounds."""
COMPARED = ("update", "rssm", "returns", "replay")
ROUNDS_SLOWER = 0.75  # share of rounds that must agree with the median
SIDES = ("base", "head")


@dataclass(frozen=True, kw_only=True)
class Compare(Settings):
    base: tyro.conf.Positional[str]  # the commit to compare with
    head: tyro.conf.Positional[str] = ""  # the commit to judge; by default files as they are
    only: str = ""  # groups, joined by commas: update, rssm, returns, replay
    tolerance: float = 1.15  # a ratio of CPU times from which on it is slower
    rounds: int = 12  # turns of each case
    size: str = "size1m"  # of the agents
    batch: int = 4  # windows of an update
    length: int = 32  # rows of each
    out: str = ""  # a JSON file for the figures; by default none is written

    def check(self) -> None:
        """See `Settings`."""
        super().check()
        among("only", self.only, COMPARED)
        self.measured().check()

    def least(self) -> dict[str, float]:
        """The smallest value of each number."""
        return {**super().least(), "tolerance": 1.0}

    def measured(self) -> Options:
        """The same for the groups: worldblocks alone, with a replay that is filled quickly."""
        names = ("rounds", "turn", "threads", "env", "timeout", "size", "batch", "length")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Options(peers="none", image_steps=10_000, proprio_steps=50_000, **given)


class Verdict(NamedTuple):
    """One case of one contestant, base and head.

    Attributes:
        base, head: median seconds; with one thread of CPU time, else of wall time.
        ratio: head over base, the median of the rounds.
        rounds: the same of each round.
        base_rounds, head_rounds: the medians of each.
    """

    group: str
    name: str
    base: float
    head: float
    ratio: float
    rounds: list[float]
    base_rounds: list[float]
    head_rounds: list[float]

    def slower(self, tolerance: float) -> bool:
        """Whether the median and most rounds are above the tolerance."""
        above = sum(ratio > tolerance for ratio in self.rounds)
        return self.ratio > tolerance and above >= ROUNDS_SLOWER * len(self.rounds)


def main(words: Sequence[str]) -> int:
    """Compare; 1 where something is slower."""
    options = parsed(Compare, "compare", ABOUT, words)
    with contextlib.ExitStack() as stack:
        trees = {"base": stack.enter_context(checkout(options.base)), "head": ROOT}
        if options.head:
            trees["head"] = stack.enter_context(checkout(options.head))
        verdicts = []
        for name in among("only", options.only, COMPARED):
            jobs = GROUPS[name].jobs(options.measured())
            verdicts += compared(name, jobs, trees, options)
    if options.out:
        names = [resolve(options.base), options.head and resolve(options.head)]
        write(options, words, names, verdicts)
    return judged(verdicts, options.tolerance)


def compared(
    group: str, jobs: Sequence[Job], trees: dict[str, Path], options: Compare
) -> list[Verdict]:
    """The cases of a group.

    A base that has not what our adapter calls is a sentence: there is nothing to compare with.

    Raises:
        ValueError: the head failed.
    """
    print(f"\ncompare: {group}", flush=True)
    both = [
        replace(job, name=f"{job.name} ({side})", source=tree)
        for job in jobs
        if job.ours
        for side, tree in trees.items()
    ]
    outcome = measure(both, **options.measuring())
    found = {one.job.name: one for one in outcome.contestants}
    verdicts = []
    for job in jobs:
        if job.ours and taking_part(group, job.name, outcome):
            sides = [found[f"{job.name} ({side})"] for side in SIDES]
            verdicts += judge(group, job.name, *sides)
    return verdicts


def taking_part(group: str, name: str, outcome: Outcome) -> bool:
    """Whether both sides were measured."""
    why = {side: outcome.skipped.get(f"{name} ({side})") for side in SIDES}
    if why["head"]:
        raise ValueError(f"{group} of the head cannot be measured: {why['head']}")
    if why["base"]:
        print(
            f"{group}: {name} is not compared: the base lacks what the adapter of today calls, or "
            f"fails: {why['base']}"
        )
    return not why["base"]


def judge(group: str, name: str, base: Contestant, head: Contestant) -> list[Verdict]:
    """A verdict for each case that both have."""
    verdicts, clock = [], record.clock_of(head.job.work.threads)
    for case in head.turns:
        if not base.turns.get(case) or not head.turns[case]:
            continue
        old, new = ([turn[clock] for turn in side.turns[case]] for side in (base, head))
        both, over = (summarise(old), summarise(new)), ratio(new, old)
        verdicts.append(
            Verdict(
                group,
                f"{name}: {case}",
                both[0].median,
                both[1].median,
                over.value,
                over.rounds,
                both[0].rounds,
                both[1].rounds,
            )
        )
    return verdicts


def judged(verdicts: Sequence[Verdict], tolerance: float) -> int:
    """Say it; the exit code.

    Raises:
        ValueError: nothing could be compared.
    """
    if not verdicts:
        raise ValueError(
            "nothing could be compared; a base that is not so old, or other groups (--only), may do"
        )
    print(f"\n{aligned(table(verdicts, tolerance))}")
    slower = [f"{one.group}, {one.name}" for one in verdicts if one.slower(tolerance)]
    if slower:
        print(f"\nslower by more than {tolerance:g}: {'; '.join(slower)}")
    else:
        print(f"\nnothing is slower by more than {tolerance:g}")
    return int(bool(slower))


def table(verdicts: Sequence[Verdict], tolerance: float) -> Table:
    """A row for each."""
    rows = [
        [
            one.group,
            one.name,
            number(1e3 * one.base),
            number(1e3 * one.head),
            number(one.ratio),
            f"{number(min(one.rounds))} – {number(max(one.rounds))}",
            "slower" if one.slower(tolerance) else "",
        ]
        for one in verdicts
    ]
    header = ["", "", "base: ms", "head: ms", "head ÷ base", "of the rounds", ""]
    return Table("compare", "time of the head over that of the base", header, rows)


def figures_of(one: Verdict, tolerance: float) -> dict[str, Any]:
    """An entry."""
    data: dict[str, Any] = {"group": one.group, "name": one.name, "unit": "ms"}
    for side in SIDES:
        data[side] = record.digits(1e3 * getattr(one, side))
        rounds = getattr(one, f"{side}_rounds")
        data[f"{side}_rounds"] = [record.digits(1e3 * seconds, 6) for seconds in rounds]
    ends = [record.digits(end) for end in (min(one.rounds), max(one.rounds))]
    data |= {"ratio": record.digits(one.ratio), "ratio_range": ends}
    return data | {"slower": one.slower(tolerance)}


def write(
    options: Compare, words: Sequence[str], commits: list[str], verdicts: Sequence[Verdict]
) -> None:
    """The figures as JSON."""
    meta = measuring.origin(options, ["compare", *words])
    meta |= dict(zip(SIDES, commits, strict=True)) | {"tolerance": options.tolerance}
    data: dict[str, Any] = {"_meta": meta}
    for one in verdicts:
        data[f"{one.group}/{one.name}"] = figures_of(one, options.tolerance)
    record.write(Path(options.out), data)
    print(f"written: {options.out}")
