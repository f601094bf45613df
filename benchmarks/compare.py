"""`python -m benchmarks compare BASE [HEAD]`: has a commit become slower than another?

Each side is measured by its own checkout: `benchmarks.worker` of that tree builds the adapter of
that tree from the sizes that this command sends. The interface between commits is therefore the
protocol of `worker.py`, the fields of `Work`, and the names of the adapters. `OLD` has the names
from before each subject was a file.
"""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from benchmarks import ROOT, figures
from benchmarks.options import Measuring, among, pairs
from benchmarks.subject import subject
from benchmarks.tables import Table, aligned, number, ranged
from benchmarks.timing import Measured, clock_of, measure, ratio, summarise

ABOUT = """Two commits measured in one run, in turns. The exit code is 1 where the second is
slower than the first by more than the tolerance, in the median and in three quarters of the
rounds, and 2 where a case of the first cannot be compared."""
COMPARED = ("update", "rssm", "returns", "replay")
OLD = {
    "update": "benchmarks.adapters.ours:update",
    "rssm": "benchmarks.adapters.ours:rssm",
    "returns": "benchmarks.adapters.returns:ours",
    "replay": "benchmarks.adapters.replay_torch:ours",
}
# glibc keeps freed memory. Whether it returns some to the system between two turns depends on the
# layout of a process, and cost `observe_backward` 15 of 65 ms in some processes of the same code.
STEADY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
ROUNDS_SLOWER = 0.75  # share of rounds that must agree with the median
SIDES = ("base", "head")


@dataclass(frozen=True, kw_only=True)
class Compare(Measuring):
    base: tyro.conf.Positional[str]  # the commit to compare with
    head: tyro.conf.Positional[str] = ""  # the commit to judge; by default files as they are
    only: str = ""  # subjects, joined by commas: update, rssm, returns, replay
    tolerance: float = 1.15  # a case is slower above this ratio
    limit: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # CASE=1.08: that one's own tolerance
    rounds: int = 12  # turns of each case
    image_steps: int = 10_000  # steps in the replay of images
    proprio_steps: int = 50_000  # steps in the replay of vectors
    out: str = ""  # a JSON file for the figures; by default none is written

    def check(self) -> None:
        """See `Measuring`."""
        super().check()
        if self.tolerance < 1:
            raise ValueError(f"--tolerance must be at least 1, got {self.tolerance}")
        _ = self.limits

    def turns(self) -> dict[str, Any]:
        """See `Measuring`; in memory that stays where it is."""
        known = super().turns()
        return {**known, "shared": STEADY | known["shared"]}

    @property
    def subjects(self) -> list[str]:
        """Those that are compared."""
        return among("only", self.only, COMPARED)

    @property
    def limits(self) -> dict[str, float]:
        """`--limit` by case."""
        known = [case for name in self.subjects for case in subject(name).cases(self.work())]
        given = pairs("limit", "CASE=RATIO such as imagine=1.08", self.limit)
        for case, value in given.items():
            among("limit", case, known)
            if not value.replace(".", "", 1).isdigit():
                raise ValueError(
                    f"--limit takes CASE=RATIO such as imagine=1.08, got {case}={value}"
                )
        return {case: float(value) for case, value in given.items()}


class Verdict(NamedTuple):
    """One case of one contestant.

    Attributes:
        base, head: median seconds, of CPU time with one thread, else of wall time.
        ratio: head over base: the median of the rounds, their range, and each of them.
        limit: the ratio above which it is slower.
    """

    subject: str
    name: str
    base: float
    head: float
    ratio: tuple[float, float, float]
    rounds: list[float]
    limit: float

    @property
    def slower(self) -> bool:
        """Whether the median and most rounds are above the limit."""
        above = sum(ratio > self.limit for ratio in self.rounds)
        return self.ratio[0] > self.limit and above >= ROUNDS_SLOWER * len(self.rounds)


def main(words: Sequence[str]) -> int:
    """Compare; 1 where something is slower, 2 where a case of the base was not compared."""
    options = tyro.cli(
        Compare, args=list(words), description=ABOUT, prog="python -m benchmarks compare"
    )
    options.check()
    verdicts, missing = [], []
    with contextlib.ExitStack() as stack:
        trees = {"base": stack.enter_context(checkout(options.base)), "head": ROOT}
        if options.head:
            trees["head"] = stack.enter_context(checkout(options.head))
        for name in options.subjects:
            judge(name, trees, options, verdicts, missing)
    if options.out:
        write(options, words, verdicts)
    return report(verdicts, missing)


def judge(
    name: str,
    trees: Mapping[str, Path],
    options: Compare,
    verdicts: list[Verdict],
    missing: list[str],
) -> None:
    """Measure a subject in both trees; a verdict for each case that both have."""
    print(f"\ncompare: {name}", flush=True)
    contestants = [one for one in subject(name).contestants if one.ours]
    jobs = []
    for one in contestants:
        for side, tree in trees.items():
            known = {"adapter": adapter(tree, name), "source": tree}
            jobs.append(one.job(options.work(), **known | {"name": f"{one.name} ({side})"}))
    found = {one.job.name: one for one in measure(jobs, **options.turns()).measured}
    for one in contestants:
        base, head = (found.get(f"{one.name} ({side})") for side in SIDES)
        for case in base.turns if base else ():
            if head and base.turns[case] and head.turns.get(case):
                limit = options.limits.get(case, options.tolerance)
                verdicts.append(verdict(name, one.name, case, base, head, limit))
            else:
                missing.append(f"{name}, {one.name}: {case}")
        if base is None:
            missing.append(f"{name}, {one.name}")
        if base and head and (new := [case for case in head.turns if case not in base.turns]):
            print(f"{name}, {one.name}: only the head has {', '.join(new)}")


def adapter(tree: Path, name: str) -> str:
    """The adapter of worldblocks in a checkout.

    Raises:
        ValueError: this command knows no benchmarks in it.
    """
    if (tree / "benchmarks" / f"{name}.py").exists():
        return f"benchmarks.{name}:ours"
    module = OLD[name].partition(":")[0].replace(".", "/")
    if (tree / f"{module}.py").exists():
        return OLD[name]
    raise ValueError(
        f"{tree.name} has neither benchmarks/{name}.py nor {module}.py: compare with a later "
        f"commit, or leave {name} out (--only)"
    )


def verdict(
    subject: str, name: str, case: str, base: Measured, head: Measured, limit: float
) -> Verdict:
    """The verdict on a case that both sides have."""
    clock = clock_of(head.job.work.threads)
    old, new = (side.rounds(case, clock) for side in (base, head))
    over = ratio(new, old)
    medians = summarise(old).median, summarise(new).median
    return Verdict(subject, f"{name}: {case}", *medians, over[:3], over.rounds, limit)


def report(verdicts: Sequence[Verdict], missing: Sequence[str]) -> int:
    """Print the table and its result; the exit code."""
    header = ["", "", "base: ms", "head: ms", "head ÷ base", "limit", ""]
    rows = [
        [
            one.subject,
            one.name,
            number(1e3 * one.base),
            number(1e3 * one.head),
            ranged(one.ratio),
            f"{one.limit:g}",
            "slower" if one.slower else "",
        ]
        for one in verdicts
    ]
    print(f"\n{aligned(Table('time of the head over that of the base', header, rows))}\n")
    if missing:
        print(f"not compared: {'; '.join(missing)}")
    slower = [f"{one.subject}, {one.name}" for one in verdicts if one.slower]
    print(f"slower than its limit: {'; '.join(slower) or 'nothing'}")
    return 2 if missing else int(bool(slower))


def write(options: Compare, words: Sequence[str], verdicts: Sequence[Verdict]) -> None:
    """The run `compare` of the figures: `origin` with both commits, and a list of cases."""
    known = figures.origin(options, ["compare", *words])
    known |= {"base": resolve(options.base), "head": options.head and resolve(options.head)}
    cases: list[dict[str, Any]] = [
        {
            "subject": one.subject,
            "name": one.name,
            "base": figures.digits(1e3 * one.base),
            "head": figures.digits(1e3 * one.head),
            "ratio": [figures.digits(value) for value in one.ratio],
        }
        for one in verdicts
    ]
    figures.write(Path(options.out), "compare", {"origin": known, "cases": cases})
    print(f"written: {options.out}")


def git(*words: str) -> subprocess.CompletedProcess[str]:
    """Run git in this repository."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def resolve(name: str) -> str:
    """The hash of a commit.

    Raises:
        ValueError: there is no such commit.
    """
    found = git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise ValueError(
            f"no commit {name!r} in {ROOT}; give a hash, a tag or a branch, such as HEAD~1"
        )
    return found.stdout.strip()


@contextlib.contextmanager
def checkout(name: str) -> Iterator[Path]:
    """Check a commit out in a temporary folder.

    Raises:
        ValueError: there is no such commit, or git cannot check it out.
    """
    commit = resolve(name)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        tree = Path(folder) / commit[:12]
        made = git("worktree", "add", "--detach", "--quiet", str(tree), commit)
        if made.returncode:
            raise ValueError(f"{name} could not be checked out of {ROOT}: {made.stderr.strip()}")
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))
