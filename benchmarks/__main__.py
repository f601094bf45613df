"""`python -m benchmarks`: measure subjects, write the pages, or compare two commits."""

import sys
from collections.abc import Sequence
from typing import Any

import tyro

import benchmarks
from benchmarks import compare, figures
from benchmarks.options import Options
from benchmarks.page import write_pages
from benchmarks.subject import Subject, chosen
from benchmarks.tables import aligned, table
from benchmarks.timing import measure


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. Wrong options are reported in one line on stderr."""
    words = sys.argv[1:] if words is None else list(words)
    try:
        if words[:1] == ["compare"]:
            return compare.main(words[1:])
        if words and not words[0].startswith("-"):
            raise ValueError(
                f"unknown command {words[0]!r}; the command is compare, and without one the "
                f"subjects are measured: `python -m benchmarks --only update`"
            )
        return run(words)
    except (ValueError, FileNotFoundError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def run(words: Sequence[str]) -> int:
    """Measure the chosen subjects, or write the pages."""
    options = tyro.cli(
        Options, args=list(words), description=benchmarks.__doc__, prog="python -m benchmarks"
    )
    options.check()
    if options.page:
        for path in write_pages(figures.read(options.out), allow_dirty=options.allow_dirty):
            print(f"written: {path}")
        return 0
    subjects = chosen(options.only)
    data = {"origin": figures.origin(options, words)}
    for one in subjects:
        data[one.name] = of_subject(one, options, data["origin"]["skipped"])
    figures.write(options.out, options.name, data)
    print(f"written: {options.out}")
    return 0


def of_subject(one: Subject, options: Options, skipped: dict[str, str]) -> dict[str, Any]:
    """The figures of a subject; contestants that were left out are added to `skipped`."""
    jobs = one.jobs(options)
    print(f"\n{one.name}: {', '.join(job.name for job in jobs)}", flush=True)
    rounds = min(options.rounds, one.rounds or options.rounds)
    outcome = measure(jobs, **{**options.turns(), "rounds": rounds})
    for name, why in outcome.skipped.items():
        skipped[f"{name} ({one.name})"] = figures.without_folders(why)
    data = figures.of_subject(one, options.work(), outcome.measured)
    for case in data["cases"]:
        print(f"\n{aligned(table(data, case, options.threads, one.counts_flops))}", flush=True)
    return data


if __name__ == "__main__":
    raise SystemExit(main())
