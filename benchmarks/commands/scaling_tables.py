"""The page of `scaling`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.commands.report import Section
from benchmarks.tables import Table, number

ABOUT = """How the time of a full update grows with batch, length, horizon, model size and
environments, one knob at a time around a base point.

The update is that of `recipes/dreamerv3_atari.py` (world model, imagination, actor, critic,
optimiser) on 64 × 64 × 3 images in float32. The points of a table are processes that took turns,
round by round; ratios are to the base point, which is in bold. GFLOP are matrix multiplications
and convolutions that are executed. CPU time is that of the process, wall time means something on
a quiet machine only.
"""

TEXTS = {
    "batch": ("Batch", "Windows of an update."),
    "length": ("Length", "Rows of a window: the time loop of `observe` gets longer."),
    "horizon": ("Horizon", "Steps of imagination from every row."),
    "memory": (
        "The knobs of memory",
        "`imag_last 16` imagines from the last 16 rows of each window; `recompute 8` keeps 8 "
        "rows of observing at a time and computes them twice. What they save is on the page "
        "[Will it fit](fit.md).",
    ),
    "size": (
        "Model size",
        "By the names of the paper, at a small batch. FLOPs, bytes and parameters of every size "
        "are counted on the meta device; a size whose row has no time was counted alone, since "
        "its update takes longer than `--longest` or more memory than is free.",
    ),
}
ENVIRONMENTS = (
    "A step of an `EnvVector`, and `act` of the recipe on its rows, by number of environments; a "
    "time is for one step of one environment. CPU time of workers is counted with it. Steps a "
    "second are those of stepping and acting one after the other, without learning."
)


def sections(data: Mapping[str, Any]) -> list[Section]:
    """One for each sweep that has figures."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, entry in data.items():
        if not name.startswith("_"):
            groups.setdefault(entry["group"], []).append(entry)
    found = [
        Section(*TEXTS[name], [points_table(entries)])
        for name, entries in groups.items()
        if name in TEXTS
    ]
    if "envs" in groups:
        table = environments_table(groups["envs"])
        found.append(Section("Environments", ENVIRONMENTS, [table]))
    return found


def points_table(entries: list[dict[str, Any]]) -> Table:
    """A row for each point."""
    base = next((entry for entry in entries if entry["is_base"]), None)
    about = base or entries[0]
    header = [about["title"], "parameters", "GFLOP", "CPU ms", "quartiles", "wall ms"]
    header += ["GFLOP/s", "÷ base", "range", "GFLOP ÷ base", "peak MiB"]
    counted = any("counted" in entry for entry in entries)
    header += ["GFLOP counted", "MiB counted"] if counted else []
    rows = [
        [
            *(untimed_row(entry) if entry["ours"] is None else point_row(entry, base)),
            *(count_cells(entry) if counted else []),
        ]
        for entry in entries
    ]
    return Table("scaling", f"{about['title']}, around {about['sizes']}", header, rows)


def untimed_row(entry: Mapping[str, Any]) -> list[str]:
    """A point that was counted alone."""
    return [entry["label"], f"{entry['counted']['parameters']:,}", *["–"] * 9]


def count_cells(entry: Mapping[str, Any]) -> list[str]:
    """What was counted on the meta device."""
    if "counted" not in entry:
        return ["–", "–"]
    return [number(entry["counted"]["flops"] / 1e9), f"{entry['counted']['bytes'] / 2**20:,.0f}"]


def point_row(entry: Mapping[str, Any], base: Mapping[str, Any] | None) -> list[str]:
    """Its cells; the base point in bold."""
    facts, milliseconds = entry["ours_facts"], entry["ours"]
    label = f"**{entry['label']}**" if entry["is_base"] else entry["label"]
    row = [label, f"{facts['parameters']:,}", number(facts["flops"] / 1e9), number(milliseconds)]
    row += [spread(entry["ours_quartiles"]), number(entry["ours_wall"])]
    row += [number(facts["flops"] / milliseconds / 1e6)]
    if base is None:
        return [*row, "–", "–", "–", f"{facts['peak_mib']:,}"]
    work = facts["flops"] / base["ours_facts"]["flops"]
    row += [number(entry["ratio"]), spread(entry["ratio_range"]), number(work)]
    return [*row, f"{facts['peak_mib']:,}"]


def spread(ends: list[float]) -> str:
    """From, to."""
    return f"{number(ends[0])} – {number(ends[1])}"


def environments_table(entries: list[dict[str, Any]]) -> Table:
    """A row for each vector."""
    header = ["environments", "workers", "step: CPU µs", "step: wall µs", "act: CPU µs"]
    header += ["act: wall µs", "steps/s"]
    vectors: dict[tuple[bool, int], dict[str, dict[str, Any]]] = {}
    for entry in entries:
        vectors.setdefault((entry["workers"], entry["number"]), {})[entry["case"]] = entry
    rows = []
    for (workers, count), cases in vectors.items():
        cells = [
            number(cases[case][key]) for case in ("env", "act") for key in ("ours", "ours_wall")
        ]
        wall = sum(cases[case]["ours_wall"] for case in ("env", "act"))
        rows.append([str(count), "yes" if workers else "no", *cells, number(1e6 / wall)])
    return Table("scaling", entries[0]["ours_facts"]["note"].partition(";")[0], header, rows)
