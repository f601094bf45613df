"""The documentation page, from the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.findings import left_of_adding, others_ahead
from benchmarks.groups import GROUPS
from benchmarks.groups.group import Group
from benchmarks.tables import Table, is_timed, markdown, number, tables

Figures = Mapping[str, Any]

HEAD = """# Benchmarks

*This page is generated from `benchmarks/latest.json` and the files beside it by
`python -m benchmarks --page`.*

worldblocks and other libraries in one run on the same work. Every contestant is a process of its
own; the processes take turns, round by round. A figure is the median of the medians of the rounds,
with their quartiles; a ratio is ours over the other's within a round, the median of the rounds and
the range of them, so that below 1 we are faster. **A ratio in brackets claims nothing**: the two do
amounts of work that differ by more than 10% (matrix multiplications and convolutions, counted while
running, each layer in the form that defines it), or the work could not be counted. With one thread
CPU time of the process is compared, with more of them wall time, which means something on a quiet
machine only.
"""
POOLED = """These figures are of an older form: their medians are of the samples of all rounds
together, and their ratios of those medians, so that a ratio may lie outside its range."""
AHEAD = """Every row below whose ratio is above 1, to two decimals, and stands without brackets,
with the range of its rounds; floors that are no library (`torch` alone, the copy of the bytes) are
among them."""
COMPARED = """The same cases of two commits of worldblocks, measured in one run, in turns."""


def beside(folder: Path) -> dict[str, Figures]:
    """Further figures that the page shows, by the names of their files, where they are present."""
    paths = [*sorted(folder.glob("update-*.json")), folder / "compare.json"]
    return {path.name: record.read(path) for path in paths if path.exists()}


def render(data: Figures, more: Mapping[str, Figures]) -> str:
    """The page of a set of figures, and of those beside it."""
    updates = {name: one for name, one in more.items() if name != "compare.json"}
    parts = [HEAD, origin(data)]
    if lines := [line for one in (data, *updates.values()) for line in others_ahead(one)]:
        parts += ["## Where others are faster or smaller", AHEAD, "\n".join(lines)]
    for group in GROUPS.values():
        parts += section(group, data, f"## {group.title}", group.about)
    for name, one in updates.items():
        parts += further(name, one)
    if "compare.json" in more:
        parts += compared(more["compare.json"])
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def section(group: Group, data: Figures, *opening: str) -> list[str]:
    """A group: its tables, what is left of them, its notes; nothing where it has no figures."""
    own = [table for table in tables(data) if table.group == group.name]
    if not own:
        return []
    parts = list(opening)
    for table in own:
        parts += [f"**{table.title[0].upper()}{table.title[1:]}**", markdown(table)]
    return [*parts, *left_of_adding(data, group.name), *notes(data, group.name)]


def further(name: str, data: Figures) -> list[str]:
    """Another file of figures, under its sizes and its threads."""
    first = next(entry for key, entry in data.items() if key[0] != "_")
    threads = first["ours_facts"]["threads"]
    sizes = first["title"].removeprefix("step, ")
    group = GROUPS[first["group"]]
    title = f"## {group.title}: {sizes}, {threads} thread{'s' if threads > 1 else ''}"
    return section(group, data, title, f"From `benchmarks/{name}`.", origin(data))


def compared(data: Figures) -> list[str]:
    """Two commits."""
    header = ["", "", "unit", "base", "head", "head ÷ base", "of the rounds"]
    rows = []
    for name, one in data.items():
        if name[0] != "_":
            low, high = map(number, one["ratio_range"])
            figures = [number(one[key]) for key in ("base", "head", "ratio")]
            rows.append([one["group"], one["name"], one["unit"], *figures, f"{low} – {high}"])
    meta = data["_meta"]
    head = meta["head"] or meta["commit"]
    clock = {"cpu": "CPU", "wall": "wall"}[record.clock_of(meta["threads"])]
    said = (
        f"Base {meta['base'][:12]}, head {head[:12]}; {clock} time. From `benchmarks/compare.json`."
    )
    table = markdown(Table("compare", "", header, rows))
    return ["## Against an earlier commit", f"{COMPARED} {said}", origin(data), table]


def origin(data: Figures) -> str:
    """Where and how the figures were made, and who did not take part."""
    meta = data["_meta"]
    commit = f"commit {meta['commit']}" + (" with changes" if meta["changed"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    given = " ".join(f"{key}={value}" for key, value in meta["environment"].items())
    facts = [f"`{meta['command']}`", commit, meta["machine"], meta["date"]]
    facts += [*rounds(meta["rounds"]), *loads(meta), versions]
    lines = [
        f"{'; '.join(facts)}.",
        f"Environment of every worker: {f'`{given}`' if given else 'nothing set'}.",
    ]
    timed = [entry for name, entry in data.items() if name[0] != "_" and is_timed(entry)]
    if any("ours_rounds" not in entry for entry in timed):
        lines.append(POOLED)
    if meta["skipped"]:
        lines.append(f"Did not take part: {', '.join(meta['skipped'])}.")
    return "\n\n".join(lines)


def rounds(made: int | list[int]) -> list[str]:
    """How many, in words; older figures have one number, which was asked for."""
    counts = [made] if isinstance(made, int) else made
    if not counts:
        return []
    few = f"{counts[0]} to " if len(counts) > 1 else ""
    return [f"{few}{counts[-1]} round{'s' if counts[-1] > 1 else ''}"]


def loads(meta: Figures) -> list[str]:
    """How busy the machine was, the command itself included; older figures do not say."""
    return [f"load {meta['load'][0]:.2g} when it began"] if meta.get("load") else []


def notes(data: Figures, group: str) -> list[str]:
    """Versions and peculiarities of the contestants of a group."""
    found = {}
    for name, entry in data.items():
        if name.startswith("_") or entry["group"] != group:
            continue
        for side in ("ours_facts", "peer_facts"):
            if facts := entry.get(side):
                found[facts["name"]] = note(facts)
    lines = [f"- {name}: {text}" for name, text in found.items() if text]
    return ["\n".join(lines)] if lines else []


def note(facts: Figures) -> str:
    """Versions, own environment, what compiling took, and what its adapter says of it."""
    parts = [", ".join(f"{name} {version}" for name, version in facts["versions"].items())]
    parts.append(" ".join(f"`{key}={value}`" for key, value in facts["environment"].items()))
    if "compile" in facts["mode"]:
        parts.append(f"first call {number(facts['first_call_s'])} s")
    return "; ".join(part for part in [*parts, facts["note"]] if part)


def write_page(data: Figures, more: Mapping[str, Figures], path: Path) -> None:
    """Write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(data, more), encoding="utf-8")
