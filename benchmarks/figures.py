"""Figures as JSON, which the pages show: `{run: {"origin", subject: {"contestants", "cases"}}}`.

`origin` has the command, commit and machine of a run. A case has a title, a unit, and in `sides` a
figure for each contestant: a value, or the median time by `clock` with its quartiles and, as
`other`, the median by the other clock. `ratios` has, for each variant of worldblocks and each
contestant, the median, smallest and largest ratio of the rounds. The run `compare` has its own
form, see `compare.py`.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.options import Measuring
from benchmarks.provenance import git, provenance
from benchmarks.subject import Case, Subject
from benchmarks.timing import OTHER, Measured, clock_of, ratio, summarise
from benchmarks.work import Work

SCALE = {"s": 1, "ms": 1e3, "µs": 1e6}  # of seconds
# Figures depend on this code. They do not depend on each other, so runs can be added later.
CODE = ("src", "recipes", "benchmarks", ":(exclude)benchmarks/*.json")


def of_subject(one: Subject, work: Work, measured: Sequence[Measured]) -> dict[str, Any]:
    """The contestants, and the cases for which worldblocks has figures."""
    ordered = sorted(measured, key=lambda m: not m.job.ours)
    cases = {name: of_case(name, case, ordered) for name, case in one.cases(work).items()}
    return {
        "contestants": {m.job.name: facts(m) for m in ordered},
        "cases": {name: case for name, case in cases.items() if case["ratios"]},
    }


def of_case(name: str, case: Case, measured: Sequence[Measured]) -> dict[str, Any]:
    """Figures of all contestants, and the ratios of ours to the others."""
    clock = clock_of(measured[0].job.work.threads) if measured else "cpu"
    sides = {m.job.name: side(m, name, case.unit, clock) for m in measured}
    taking = [m for m in measured if sides[m.job.name] is not None]
    data: dict[str, Any] = {"title": case.title, "unit": case.unit}
    data |= {"clock": clock} if any(m.turns.get(name) for m in taking) else {}
    data["sides"] = {m.job.name: sides[m.job.name] for m in taking}
    peers = [m for m in taking if not m.job.ours]
    data["ratios"] = {
        own.job.name: {peer.job.name: of_pair(own, peer, name, clock) for peer in peers}
        for own in taking
        if own.job.ours
    }
    return data


def side(one: Measured, case: str, unit: str, clock: str) -> dict[str, Any] | None:
    """The figure of a contestant; None if it has none."""
    if case in one.facts["values"]:
        return {"figure": digits(one.facts["values"][case])}
    if not one.turns.get(case):
        return None
    own, other = (summarise(one.rounds(case, which)) for which in (clock, OTHER[clock]))
    data = {
        "figure": digits(own.median * SCALE[unit]),
        "quartiles": [digits(end * SCALE[unit]) for end in (own.low, own.high)],
        "other": digits(other.median * SCALE[unit]),
    }
    return data | {key: one.facts[key][case] for key in ("flops",) if case in one.facts[key]}


def of_pair(ours: Measured, peer: Measured, case: str, clock: str) -> list[float]:
    """The ratio of times with its range, or of values without one; empty for errors."""
    if ours.turns.get(case):
        return [digits(x) for x in ratio(ours.rounds(case, clock), peer.rounds(case, clock))[:3]]
    theirs = peer.facts["values"][case]
    comparable = theirs and not case.startswith("error")
    return [digits(ours.facts["values"][case] / theirs)] if comparable else []


def facts(one: Measured) -> dict[str, Any]:
    """Mode, parameters, versions, note and environment of a contestant."""
    data = {key: one.facts[key] for key in ("mode", "parameters", "versions", "note")}
    data["environment"] = dict(one.job.environment)
    if "compile" in data["mode"]:
        data["first_call_s"] = digits(max(one.facts["first_call"].values()))
    return {key: value for key, value in data.items() if value}


def digits(value: float) -> float:
    """Rounded to four digits; more would be noise."""
    return float(f"{value:.4g}")


def origin(options: Measuring, words: Sequence[str]) -> dict[str, Any]:
    """Command, commit, machine and settings of a run."""
    return {
        "command": without_folders(shlex.join(["python", "-m", "benchmarks", *words])),
        "changed": bool(git("status", "--porcelain", "--", *CODE, root=ROOT)),
        **provenance(root=ROOT),
        "load": round(os.getloadavg()[0], 2),
        "threads": options.threads,
        "environment": options.turns()["shared"],
        "rounds": options.rounds,
        "skipped": {},
    }


def without_folders(text: str) -> str:
    """Replace absolute paths by their last part, as figures are published.

    >>> without_folders("--python /home/me/peers/bin/python --out b.json")
    '--python python --out b.json'
    """
    return re.sub(r"(?<![\w.~-])/(?:[\w.+~@-]+/)+", "", text)


def read(path: Path) -> dict[str, Any]:
    """All runs of a file.

    Raises:
        FileNotFoundError: nothing has been measured yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"there are no figures at {path}; `python -m benchmarks --out {path}` makes them"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, name: str, run: Mapping[str, Any]) -> None:
    """Add a run to the file, or replace that of the same name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = {**(read(path) if path.exists() else {}), name: run}
    path.write_text(compact(runs) + "\n", encoding="utf-8")


def compact(value: Any, indent: str = "") -> str:
    """JSON in which every value that fits is on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(line) + len(indent) <= 200:
        return line
    inner = indent + " "
    parts = [
        f"{inner}{json.dumps(key, ensure_ascii=False)}: {compact(part, inner)}"
        for key, part in value.items()
    ]
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
