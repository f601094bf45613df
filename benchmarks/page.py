"""The page of the benchmarks, and the parts of other pages, from the figures."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import ROOT
from benchmarks.subject import NAMES, subject
from benchmarks.tables import PLAIN, Table, markdown, no_claim, number, ranged, table, variant
from benchmarks.timing import clock_of

Runs = Mapping[str, Mapping[str, Any]]

PAGE, README = Path("docs/performance/benchmarks.md"), Path("README.md")
PERFORMANCE = Path("docs/performance.md")
BEGIN, END = "<!-- from the figures: python -m benchmarks --page -->", "<!-- until here -->"
WIDTH = 120
HEAD = """# Benchmarks

*This page is generated from `benchmarks/figures.json` by `python -m benchmarks --page`.*

worldblocks and other libraries in one run on the same work. Every contestant is a process, and the
processes take turns, round by round. A figure is the median of the medians of the rounds, with
their quartiles. A ratio is our time over the other's within a round: the median of the rounds and
their range. Below 1 we are faster. **A ratio in brackets is not a claim**: the amounts of work
differ by more than 10% (matrix multiplications and convolutions, counted while running, each layer
by its definition), or the work could not be counted. With one thread CPU time of the process is
compared, with more threads wall time, which is reliable only on a quiet machine.
"""
AHEAD = """Every ratio above 1, to two decimals and without brackets, with the range of its rounds.
Two of them are floors rather than libraries: `torch` alone, and the copy of the bytes."""
COMPARED = """The same cases of two commits of worldblocks, measured in one run, in turns."""


def write_pages(runs: Runs, *, allow_dirty: bool, root: Path = ROOT) -> list[Path]:
    """Write the page, and the parts of other pages between two comments; the written paths.

    Raises:
        ValueError: a run was made with uncommitted changes, so its commit is not its code.
    """
    for name, run in runs.items():
        if run["origin"]["changed"] and not allow_dirty:
            raise ValueError(
                f"{name} was measured at {run['origin']['commit']} with changes, so nobody "
                f"can look up its code; commit and measure again, or add --allow-dirty"
            )
    parts = excerpts(runs)
    for path, text in parts.items():
        page = root / path
        page.write_text(inserted(page.read_text("utf-8"), text, path.name), "utf-8")
    (root / PAGE).parent.mkdir(parents=True, exist_ok=True)
    (root / PAGE).write_text(render(runs), "utf-8")
    return [root / path for path in (PAGE, *parts)]


def render(runs: Runs) -> str:
    """The page."""
    measured = {name: run for name, run in runs.items() if name != "compare"}
    parts = [HEAD, origin(runs["latest"]["origin"])]
    found = [win for run in measured.values() for win in ahead(run)]
    if found:
        lines = [f"- {win.title}: {win.peer}{win.against}: {ranged(win.ratio)}" for win in found]
        parts += ["## Where others are faster or smaller", AHEAD, "\n".join(lines)]
    for name, run in measured.items():
        for one in map(subject, (known for known in NAMES if known in run)):
            title = f"## {one.title}" if name == "latest" else f"## {one.title}: {name}"
            parts += [title, *([one.about] if name == "latest" else [origin(run["origin"])])]
            parts += section(run, one.name)
    if "compare" in runs:
        parts += compared(runs["compare"])
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def section(run: Mapping[str, Any], name: str) -> list[str]:
    """The tables of a subject, then notes on the contestants."""
    data, parts = run[name], []
    for case in data["cases"]:
        one = table(data, case, run["origin"]["threads"], subject(name).counts_flops)
        first = one.title[0]
        title = first.upper() if first.isascii() else first  # λ stays lower case
        parts += [f"**{title}{one.title[1:]}**", markdown(one)]
    notes = {who: note(facts) for who, facts in data["contestants"].items()}
    return [*parts, "\n".join(f"- {who}: {text}" for who, text in notes.items() if text)]


def note(facts: Mapping[str, Any]) -> str:
    """Versions, environment, compile time, and the note of the adapter."""
    versions = facts.get("versions", {})
    parts = [", ".join(f"{name} {version}" for name, version in versions.items())]
    parts += [f"`{key}={value}`" for key, value in facts.get("environment", {}).items()]
    if "first_call_s" in facts:
        parts.append(f"first call {number(facts['first_call_s'])} s")
    return "; ".join(filter(None, [*parts, facts.get("note")]))


def origin(known: Mapping[str, Any]) -> str:
    """Command, commit and machine of a run, and the contestants that were left out."""
    commit = f"commit {known['commit']}" + (" with changes" if known["changed"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    given = " ".join(f"{key}={value}" for key, value in known["environment"].items())
    rounds = f"{known['rounds']} round{'s' if known['rounds'] > 1 else ''}"
    facts = [f"`{known['command']}`", commit, known["machine"], known["date"], rounds]
    facts += [f"load {known['load']:.2g} when it began", versions]
    facts += [f"environment of every worker `{given}`"] if given else []
    lines = [f"{'; '.join(facts)}."]
    if known["skipped"]:
        lines.append(f"Did not take part: {', '.join(known['skipped'])}.")
    return "\n\n".join(lines)


def compared(run: Mapping[str, Any]) -> list[str]:
    """The section on two commits."""
    header = ["", "", "base: ms", "head: ms", "head ÷ base"]
    rows = [
        [
            one["subject"],
            one["name"],
            number(one["base"]),
            number(one["head"]),
            ranged(one["ratio"]),
        ]
        for one in run["cases"]
    ]
    known = run["origin"]
    head, clock = known["head"] or known["commit"], clock_of(known["threads"])
    text = (
        f"Base {known['base'][:12]}, head {head[:12]}; {'CPU' if clock == 'cpu' else clock} time."
    )
    opening = ["## Against an earlier commit", f"{COMPARED} {text}", origin(known)]
    return [*opening, markdown(Table("", header, rows))]


class Win(NamedTuple):
    """A contestant that needs less time, memory or packages than ours for the same work."""

    title: str
    peer: str
    against: str
    ratio: list[float]


def ahead(run: Mapping[str, Any]) -> Iterator[Win]:
    """All wins of a run, after rounding to two decimals."""
    threads = run["origin"]["threads"]
    for one in map(subject, (known for known in NAMES if known in run)):
        for case in run[one.name]["cases"].values():
            sides = case["sides"]
            title = case["title"] + (f", {threads} threads" if threads > 1 else "")
            for own, ratios in case["ratios"].items():
                for peer, ratio in ratios.items():
                    counted = one.counts_flops and "clock" in case
                    claims = not (counted and no_claim(sides[own], sides[peer]))
                    if ratio and round(ratio[0], 2) > 1 and claims:
                        against = "" if own == PLAIN else f", compared with {own}"
                        yield Win(title, peer, against, ratio)


def excerpts(runs: Runs) -> dict[Path, str]:
    """The parts of other pages, by page."""
    run = runs["latest"]
    summaries = {}
    for one in map(subject, (known for known in NAMES if known in run)):
        if one.summary:
            summaries[one.name] = one.summary(run[one.name]["cases"], run["origin"])
    wins: dict[str, list[str]] = {}
    for win in ahead(run):
        if not win.against:
            wins.setdefault(win.peer, []).append(f"{win.title}: {number(win.ratio[0])}")
    who = ", ".join(f"{peer} ({'; '.join(cases)})" for peer, cases in wins.items())
    parts = [" ".join(filter(None, summaries.values()))]
    parts += [f"**Others are faster or smaller**, ours ÷ theirs: {who}."] if who else []
    parts = [*map(wrapped, parts), update_table(runs)]
    return {
        README: wrapped(summaries.get("update", "")),
        PERFORMANCE: "\n\n".join(filter(None, parts)),
    }


def wrapped(text: str) -> str:
    """Text wrapped to the width of the page."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def update_table(runs: Runs) -> str:
    """The ratios of every update, a column for each run."""
    header, rows = ["the update, ours ÷ theirs"], {}
    for run in runs.values():
        if "update" not in run:
            continue
        [step], threads = run["update"]["cases"].values(), run["origin"]["threads"]
        sizes = step["title"].removeprefix("step, ")
        header.append(sizes + (f", {threads} threads, wall time" if threads > 1 else ""))
        for own, ratios in step["ratios"].items():
            for peer, ratio in ratios.items():
                name = peer if own == PLAIN else f"{peer}, {variant(own)}"
                why = no_claim(step["sides"][own], step["sides"][peer])
                cells = rows.setdefault(name, {})
                cells[len(header) - 1] = f"({ratio[0]:.2g})" if why else f"{ratio[0]:.2g}"
    columns = range(1, len(header))
    cells = [[name, *(row.get(one, "–") for one in columns)] for name, row in rows.items()]
    return markdown(Table("", header, cells)) if cells else ""


def inserted(page: str, text: str, name: str) -> str:
    """The page with the text between its two comments.

    Raises:
        ValueError: the page does not have the comments.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f"{name} has no place for the figures; write {BEGIN} and {END} around where they go"
        )
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
