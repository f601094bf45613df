"""Sentences and a table of other pages that are made of the figures, between two comments."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.findings import is_ahead
from benchmarks.record import PLAIN
from benchmarks.tables import Table, markdown, number

Figures = Mapping[str, Any]

BEGIN, END = "<!-- from the figures: python -m benchmarks --page -->", "<!-- until here -->"
WIDTH = 120
README, PERFORMANCE = Path("README.md"), Path("docs/performance.md")
# Entries that the sentences are about, and how they name them.
UPDATES = {"r2dreamer": "r2dreamer's eager update", "official JAX": "the official JAX code's"}
OBSERVING = {
    "rssm/observe/official JAX": "`RSSM.observe` forward",
    "rssm/observe_backward/official JAX": "with its backward pass",
    "rssm/imagine/official JAX": "imagination",
}


def excerpts(data: Figures, more: Mapping[str, Figures]) -> dict[Path, str]:
    """The parts, by the page that has them."""
    updates = {"latest.json": data}
    updates |= {name: one for name, one in more.items() if name.startswith("update-")}
    lines = [update(data), observing(data), adding(data), cold_start(data)]
    parts = [wrapped(" ".join(filter(None, lines))), wrapped(ahead(data)), update_table(updates)]
    return {README: wrapped(update(data)), PERFORMANCE: "\n\n".join(filter(None, parts))}


def wrapped(text: str) -> str:
    """Lines as long as those around them."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def update(data: Figures) -> str:
    """The update of the same architecture, beside each that has it."""
    found = []
    for peer, name in UPDATES.items():
        entry = data.get(f"update/step/{peer}")
        if entry and not entry["no_claim"]:
            found.append(f"{share(entry)} of the time of {name}")
    if not found:
        return ""
    entry = data[next(key for key in data if key.startswith("update/step/"))]
    threads = entry["ours_facts"]["threads"]
    return (
        f"An update on a CPU ({entry['title'].removeprefix('step, ')}, {threads} "
        f"thread{'s' if threads > 1 else ''}, same architecture) takes {' and '.join(found)}."
    )


def share(entry: Figures) -> str:
    """Two digits, and the range of the rounds."""
    low, high = entry["ratio_range"]
    return f"{entry['ratio']:.2g} ({low:.2g} to {high:.2g} by round)"


def observing(data: Figures) -> str:
    """The RSSM beside the scan of JAX."""
    found = [f"{name} {share(data[key])}" for key, name in OBSERVING.items() if key in data]
    return f"Of the time of the JAX scan: {', '.join(found)}." if found else ""


def adding(data: Figures) -> str:
    """A replay beside the copy of the bytes."""
    add, sample = (data.get(f"replay/{case}/copy floor") for case in ("add", "sample"))
    if add is None or sample is None:
        return ""
    return (
        f"Adding a row to a replay takes {number(add['ours'])} µs a step, where the copy of its "
        f"bytes alone takes {number(add['peer'])} µs; sampling takes {share(sample)} of the time "
        f"of such a copy."
    )


def ahead(data: Figures) -> str:
    """Who takes less than ours for the same work."""
    found: dict[str, list[str]] = {}
    for name, entry in data.items():
        if name[0] != "_" and is_ahead(entry) and entry["ours_facts"]["name"] == PLAIN:
            case = f"{entry['title']}: {number(entry['ratio'])}"
            found.setdefault(entry["peer_facts"]["name"], []).append(case)
    who = [f"{peer} ({'; '.join(cases)})" for peer, cases in found.items()]
    return f"**Others are faster or smaller**, ours ÷ theirs: {', '.join(who)}." if who else ""


def cold_start(data: Figures) -> str:
    """From a fresh process to the end of the first update."""
    entry = data.get("import/update")
    if entry is None:
        return ""
    return (
        f"From a fresh process to the end of the first update: {entry['ours']:.2g} s of CPU "
        f"time, {entry['ours_wall']:.2g} s on the wall."
    )


def update_table(updates: Mapping[str, Figures]) -> str:
    """The ratios of every update, a column for each file of figures."""
    header: list[str] = ["the update, ours ÷ theirs"]
    cells: dict[str, dict[int, str]] = {}
    for data in updates.values():
        entries = [entry for key, entry in data.items() if key.startswith("update/step/")]
        if not entries:
            continue
        column = len(header)
        threads = entries[0]["ours_facts"]["threads"]
        sizes = entries[0]["title"].removeprefix("step, ")
        header.append(sizes + (f", {threads} threads, wall time" if threads > 1 else ""))
        for entry in entries:
            if entry["peer"]:
                text = f"{entry['ratio']:.2g}"
                row = cells.setdefault(row_name(entry), {})
                row[column] = f"({text})" if entry["no_claim"] else text
    columns = range(1, len(header))
    rows = [[name, *(row.get(one, "–") for one in columns)] for name, row in cells.items()]
    return markdown(Table("update", "", header, rows)) if rows else ""


def row_name(entry: Figures) -> str:
    """The peer, and our variant."""
    own, peer = (entry[f"{side}_facts"]["name"] for side in ("ours", "peer"))
    return peer if own == PLAIN else f"{peer}, beside {own.removeprefix(PLAIN).strip(' ()')}"


def insert(path: Path, text: str) -> None:
    """Put the text between the two comments of a page.

    Raises:
        ValueError: the page lacks them.
    """
    path.write_text(inserted(path.read_text(encoding="utf-8"), text, path.name), encoding="utf-8")


def inserted(page: str, text: str, name: str) -> str:
    """The page with the text between its two comments."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f"{name} has no place for the figures; write {BEGIN} and {END} around where they go"
        )
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
