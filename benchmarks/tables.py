"""Entries as tables: one for each case, a row for each contestant."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.record import OTHER, PLAIN

CLOCKS = {"cpu": "CPU", "wall": "wall"}


class Table(NamedTuple):
    """Cells as text."""

    group: str
    title: str
    header: list[str]
    rows: list[list[str]]


class Side(NamedTuple):
    """One contestant at one case."""

    facts: Mapping[str, Any]
    value: float
    quartiles: Sequence[float] | None
    beside: float | None  # the median of the other clock
    ours: bool


def tables(data: Mapping[str, Any]) -> list[Table]:
    """All of them, in the order of the entries."""
    cases: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, entry in data.items():
        if not name.startswith("_"):
            cases.setdefault((entry["group"], entry["case"]), []).append(entry)
    return [table(entries) for entries in cases.values()]


def table(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Contestants at one case; for each variant of worldblocks, its ratio to each of the others."""
    sides = contestants(entries)
    ratios = {(e["ours_facts"]["name"], e["peer_facts"]["name"]): e for e in entries if e["peer"]}
    variants = list(dict.fromkeys(name for name, _ in ratios))
    first, timed = entries[0], is_timed(entries[0])
    modelled = any(side.facts["parameters"] for side in sides.values())
    compared = [] if first["case"].startswith("error") else variants
    unit = first["unit"]
    header = ["", *(["mode"] if timed else [])]
    header += ["parameters", "GFLOP"] if modelled else []
    clock = first.get("clock", "cpu")
    times = [f"{CLOCKS[clock]} {unit}", "quartiles", f"{CLOCKS[OTHER[clock]]} {unit}"]
    header += times if timed else [unit or "figure"]
    header += [ratio_title(name) for name in compared]
    rows = []
    for name, side in sides.items():
        row = [name, *([mode(side.facts)] if timed else [])]
        row += model_cells(side.facts) if modelled else []
        row += time_cells(side) if timed else [number(side.value)]
        row += ["" if side.ours else ratio_cell(ratios.get((own, name))) for own in compared]
        rows.append(row)
    return Table(first["group"], first["title"], header, rows)


def is_timed(entry: Mapping[str, Any]) -> bool:
    """Whether it has times, not values."""
    return "ours_samples" in entry


def contestants(entries: Sequence[Mapping[str, Any]]) -> dict[str, Side]:
    """By name, worldblocks first."""
    found = {}
    for side in ("ours", "peer"):
        for entry in entries:
            if f"{side}_facts" in entry:
                facts = entry[f"{side}_facts"]
                beside = entry.get(f"{side}_{OTHER[entry.get('clock', 'cpu')]}")
                spread = entry.get(f"{side}_quartiles")
                one = Side(facts, entry[side], spread, beside, side == "ours")
                found.setdefault(facts["name"], one)
    return found


def ratio_title(name: str) -> str:
    """The head of a column of ratios."""
    return f"{name} ÷ it" if name == PLAIN else f"{name.removeprefix(PLAIN).strip(' ()')} ÷ it"


def ratio_cell(entry: Mapping[str, Any] | None) -> str:
    """With its range; in brackets where the work differs, with the reason."""
    if entry is None or entry["ratio"] is None:
        return "–"
    text = number(entry["ratio"])
    return f"({text}: {entry['no_claim']})" if entry["no_claim"] else text + ranged(entry)


def ranged(entry: Mapping[str, Any]) -> str:
    """The smallest and the largest ratio of the rounds; nothing where there are none."""
    if "ratio_range" not in entry:
        return ""
    low, high = map(number, entry["ratio_range"])
    return f", {low} – {high}"


def mode(facts: Mapping[str, Any]) -> str:
    """How it ran, with its threads and its own environment."""
    threads = f"{facts['threads']} thread{'s' if facts['threads'] > 1 else ''}"
    return ", ".join([facts["mode"], threads])


def model_cells(facts: Mapping[str, Any]) -> list[str]:
    """Parameters and work."""
    count, flops = facts["parameters"], facts["flops"]
    return [f"{count:,}" if count else "–", f"{flops / 1e9:.3g}" if flops else "–"]


def time_cells(side: Side) -> list[str]:
    """The median by the clock that is compared, its quartiles, that by the other one."""
    assert side.quartiles is not None
    assert side.beside is not None
    low, high = map(number, side.quartiles)
    return [number(side.value), f"{low} – {high}", number(side.beside)]


def number(value: float) -> str:
    """Whole from 100 on, three digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(one: Table) -> str:
    """A table of a page."""
    lines = [one.header, ["---"] * len(one.header), *one.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def aligned(one: Table) -> str:
    """A table of a terminal, under its title."""
    widths = [max(map(len, column)) for column in zip(one.header, *one.rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [one.header, *one.rows]
    ]
    return "\n".join([f"{one.group}: {one.title}", *lines])
