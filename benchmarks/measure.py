"""The default command: measure groups, print their tables, write their figures."""

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from benchmarks import record
from benchmarks.excerpts import excerpts, insert
from benchmarks.groups import Group, chosen
from benchmarks.interleave import measure
from benchmarks.jobs import ROOT
from benchmarks.options import PAGE, Options
from benchmarks.page import beside, write_page
from benchmarks.provenance import git, provenance
from benchmarks.tables import aligned, tables

# What figures depend on. They do not depend on each other: one file may be made after another.
CODE = ("src", "recipes", "benchmarks", ":(exclude)benchmarks/*.json")


def main(options: Options, words: Sequence[str]) -> int:
    """Measure what the options ask for, or write the page."""
    if options.page:
        return write_pages(options)
    groups = chosen(options.only)
    data: dict[str, Any] = {"_meta": origin(options, words)}
    for group in groups:
        data |= run_group(group, options, data["_meta"]["skipped"])
    record.write(options.out, data)
    print(f"written: {options.out}")
    return 0


def write_pages(options: Options) -> int:
    """The page, and the parts of other pages that are made of the same figures."""
    data, more = record.read(options.out), beside(options.out.parent)
    for name, one in {options.out.name: data, **more}.items():
        record.published(one, name, allow_dirty=options.allow_dirty)
    write_page(data, more, PAGE)
    print(f"written: {PAGE}")
    for path, text in excerpts(data, more).items():
        insert(ROOT / path, text)
        print(f"written: {ROOT / path}")
    return 0


def run_group(group: Group, options: Options, skipped: dict[str, str]) -> dict[str, Any]:
    """The entries of a group; those who did not take part are added to `skipped`."""
    jobs = group.jobs(options)
    print(f"\n{group.name}: {', '.join(job.name for job in jobs)}", flush=True)
    outcome = measure(
        jobs,
        rounds=min(options.rounds, group.rounds or options.rounds),
        seconds=options.turn,
        shared=options.environment,
        timeout=options.timeout,
    )
    whys = {name: without_folders(why) for name, why in outcome.skipped.items()}
    skipped |= {f"{name} ({group.name})": why for name, why in whys.items()}
    found = record.entries(group, outcome.contestants)
    for table in tables(found):
        print(f"\n{aligned(table)}", flush=True)
    return found


def origin(options: Any, words: Sequence[str]) -> dict[str, Any]:
    """Where the figures come from; the options have `threads`, `environment` and `rounds`."""
    return {
        **provenance(root=ROOT),
        "changed": bool(git("status", "--porcelain", "--", *CODE, root=ROOT)),
        "load": [round(load, 2) for load in os.getloadavg()],
        "threads": options.threads,
        "environment": options.environment,
        "rounds": options.rounds,
        "command": without_folders(shlex.join(["python", "-m", "benchmarks", *words])),
        "skipped": {},
    }


def without_folders(text: str) -> str:
    """Absolute paths by their last part: figures are published, the folders of a machine are not.

    >>> without_folders("--python /home/me/peers/bin/python --out b.json")
    '--python python --out b.json'
    """
    return re.sub(r"(?<![\w.~-])/(?:[\w.+~@-]+/)+", "", text)
