"""The page of `floor`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.commands.report import Section
from benchmarks.tables import Table, number

ABOUT = """How long an update would take if its arithmetic ran at the best rate that the same
machine showed in the same run, and its other bytes at the speed of a copy; how long it takes;
where the time goes.

The floor is FLOPs of matrix multiplications and convolutions over the measured rate of each, and
the bytes that all other operations read and write, each once, over the measured bandwidth. It is
one of eager operations: whatever fuses them moves fewer bytes. The update is that of
`recipes/dreamerv3_atari.py`. On a CPU times are CPU times of the process; on CUDA they are wall
times until the GPU is done, the update is one captured graph in bfloat16, and its parts run
eagerly.
"""

PARTS = ("encoder", "observe", "decoder", "heads", "imagination", "actor and critic", "optimiser")
TOGETHER = "actor, critic, imagination"
UNITS = {"matmul": ("GFLOP/s", 1e9), "convolution": ("GFLOP/s", 1e9), "copy": ("GB/s", 1e9)}


def sections(data: Mapping[str, Any]) -> list[Section]:
    """Ceilings, the floor, operations, parts."""
    floor = data["floor"]
    clock = "ours_wall" if floor["device"] == "cuda" else "ours"
    texts = {
        "parts": "Each part alone, on what the parts before it gave. `observe` has the prior and "
        "the KL terms with it. Actor and critic are the difference between their loss, which "
        "imagines, and imagination alone; their forward and backward pass with it.",
        "profile": "Time in an operation itself, without those that it calls; Python is not in "
        "it. Recorded by the profiler of PyTorch, which makes everything somewhat slower.",
    }
    return [
        Section("Floor", verdict(floor), [floor_table(floor)]),
        Section("Ceilings", "Measured between the turns of the update.", [ceilings(data, clock)]),
        Section("Parts", texts["parts"], [parts(data, clock)]),
        Section("Operations", texts["profile"], [operations(data)]),
    ]


def verdict(floor: Mapping[str, Any]) -> str:
    """The result in words."""
    facts, counted = floor["facts"], floor["counted"]
    where = f" on {facts['note']}" if facts["note"] else ""
    return (
        f"{floor['sizes']}{where}, {facts['threads']} threads: the update takes "
        f"{number(floor['measured'])} ms, **{number(floor['times_floor'])} times its floor** of "
        f"{number(floor['floor'])} ms. Its {counted['operations']:,.0f} operations, each at the "
        f"cost of the smallest, would take {number(floor['calls'])} ms. Model-FLOPs "
        f"utilisation, which is the {number(counted['architecture'] / 1e9)} GFLOP of the "
        f"architecture over time and over the measured rate of matrix multiplication: "
        f"{100 * floor['utilisation']:.1f}%."
    )


def floor_table(floor: Mapping[str, Any]) -> Table:
    """What is counted, at which rate, and how long that takes."""
    counted, rates, rows = floor["counted"], floor["rates"], []
    for name, milliseconds in floor["terms"].items():
        kind = name.partition(" ")[0] if name in counted else "copy"
        amount = counted[name] if name in counted else counted["bytes other"]
        unit, scale = UNITS[kind]
        cells = [f"{number(amount / scale)} {unit[:-2]}", f"{number(rates[kind] / scale)} {unit}"]
        rows.append([name, *cells, number(milliseconds)])
    rows.append(["**floor**", "", "", f"**{number(floor['floor'])}**"])
    rows.append(["measured", "", "", number(floor["measured"])])
    return Table("floor", "one update", ["", "amount", "rate", "ms"], rows)


def ceilings(data: Mapping[str, Any], clock: str) -> Table:
    """What the machine can do."""
    rows = []
    for entry in of(data, "ceiling"):
        kind = entry["case"].partition(" ")[0]
        unit, scale = UNITS.get(kind, ("µs each", 0.0))
        rate = entry["rate"] / scale if scale else 1e6 / entry["rate"]
        rows.append([entry["case"], number(entry[clock]), f"{number(rate)} {unit}"])
    return Table("floor", "ceilings of the machine", ["", "ms", "rate"], rows)


def parts(data: Mapping[str, Any], clock: str) -> Table:
    """Where the time goes."""
    times = {entry["case"]: entry[clock] for entry in of(data, "part")}
    for way in ("forward", "both"):
        whole = times[f"{TOGETHER} {way}"]
        times[f"actor and critic {way}"] = whole - times["imagination forward"]
    whole, rows, total = times["update"], [], 0.0
    for name in PARTS:
        forward, both = times[f"{name} forward"], times.get(f"{name} both")
        longest = forward if both is None else both
        total += longest
        cells = [number(forward), "–" if both is None else number(both)]
        rows.append([name, *cells, f"{100 * longest / whole:.0f}%"])
    rows.append(["sum of parts", "", number(total), f"{100 * total / whole:.0f}%"])
    rows.append(["**update**", "", f"**{number(whole)}**", ""])
    header = ["", "forward ms", "forward and backward ms", "share of the update"]
    return Table("floor", "time by part", header, rows)


def operations(data: Mapping[str, Any]) -> Table:
    """The profile."""
    rows = [
        [
            f"`{entry['operation']}`",
            number(entry["ours"]),
            f"{100 * entry['share']:.1f}%",
            f"{entry['calls']:,}",
        ]
        for entry in of(data, "profile")
    ]
    return Table("floor", "operations", ["", "ms itself", "share", "calls"], rows)


def of(data: Mapping[str, Any], group: str) -> list[Mapping[str, Any]]:
    """Entries of a group."""
    return [entry for name, entry in data.items() if name[0] != "_" and entry["group"] == group]
