"""Figures as tables, one for each case, with a row for each contestant."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

PLAIN = "worldblocks"
CLOCKS = {"cpu": "CPU", "wall": "wall"}
FLOPS_APART = 0.10  # amounts of work that differ by more are not the same work


class Table(NamedTuple):
    """Cells as text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def table(data: Mapping[str, Any], case: str, threads: int, counts_flops: bool) -> Table:
    """The contestants of a case, and the ratios of our variants to the others."""
    known, one = data["contestants"], data["cases"][case]
    timed, unit, ratios = "clock" in one, one["unit"], one["ratios"]
    modelled = any("parameters" in known[name] for name in one["sides"])
    variants = [own for own, peers in ratios.items() if any(peers.values())]
    header = ["", "mode"] if timed else [""]
    header += ["parameters", "GFLOP"] if modelled else []
    if timed:
        own, other = CLOCKS[one["clock"]], CLOCKS[{"cpu": "wall", "wall": "cpu"}[one["clock"]]]
        header += [f"{own} {unit}", "quartiles", f"{other} {unit}"]
    else:
        header += [unit or "figure"]
    header += [f"{variant(own) or own} ÷ it" for own in variants]
    rows = []
    for name, side in one["sides"].items():
        row = [name]
        if timed:
            row += [f"{known[name]['mode']}, {threads} thread{'s' if threads > 1 else ''}"]
        if modelled:
            count, flops = known[name].get("parameters"), side.get("flops")
            row += [f"{count:,}" if count else "–", f"{flops / 1e9:.3g}" if flops else "–"]
        row += [number(side["figure"])]
        if timed:
            low, high = map(number, side["quartiles"])
            row += [f"{low} – {high}", number(side["other"])]
        for own in variants:
            pair = (one["sides"][own], side) if counts_flops and timed else None
            row += ["" if name in ratios else ratio_cell(ratios[own].get(name), pair)]
        rows.append(row)
    return Table(one["title"], header, rows)


def variant(name: str) -> str:
    """The variant in a name of ours; empty for the plain one."""
    return name.removeprefix(PLAIN).strip(" ()")


def no_claim(ours: Mapping[str, Any], peer: Mapping[str, Any]) -> str:
    """Why a ratio is in brackets; empty if it is not."""
    counts = [side.get("flops") for side in (ours, peer)]
    if None in counts:
        return "FLOPs not counted"
    if abs(counts[0] - counts[1]) > FLOPS_APART * max(counts):
        few = " against ".join(f"{count / 1e9:.3g}" for count in counts)
        return f"{few} GFLOP"
    return ""


def ratio_cell(ratio: Sequence[float] | None, pair: tuple[Any, Any] | None) -> str:
    """A ratio with its range; in brackets with the reason if the work differs."""
    if not ratio:
        return "–"
    why = no_claim(*pair) if pair else ""
    return f"({number(ratio[0])}: {why})" if why else ranged(ratio)


def ranged(ratio: Sequence[float]) -> str:
    """A ratio, with the smallest and the largest of the rounds if given."""
    few = [number(value) for value in ratio]
    return f"{few[0]}, {few[1]} – {few[2]}" if len(few) == 3 else few[0]


def speed(ratio: Sequence[float]) -> str:
    """The inverse of a ratio of times, with the range of the rounds."""
    middle, low, high = (f"{1 / value:.2g}×" for value in ratio)
    return f"{middle} ({high.rstrip('×')}–{low})"


def number(value: float) -> str:
    """An integer from 100 on, three digits below."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown(one: Table) -> str:
    """A table for a page."""
    lines = [one.header, ["---"] * len(one.header), *one.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def aligned(one: Table) -> str:
    """A table for a terminal, under its title."""
    widths = [max(map(len, column)) for column in zip(one.header, *one.rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [one.header, *one.rows]
    ]
    return "\n".join([one.title, *lines])
