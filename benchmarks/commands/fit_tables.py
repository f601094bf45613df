"""The page of `fit`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.commands.report import Section
from benchmarks.tables import Table, number

GIB = 2**30
CARDS = (8, 12, 16, 24)  # GB, as they are sold: GiB
CONTEXT = 1  # GiB of a card that CUDA itself and what is not counted may take

ABOUT = """The memory that an update needs at its worst moment, by model size, batch and image
side, and on which cards it fits.

**This is a count, in float32**: of the tensors that are alive together in the second update of
`recipes/dreamerv3_atari.py`, operation by operation on the meta device, where nothing is
computed and nothing taken (`wb.run.count_memory`). Parameters, the slow critic, gradients, the
optimiser's state and the batch are in it. An allocator's rounding, workspaces of libraries,
prefetched batches and a replay on the device are not. The recipes compute in bfloat16 on CUDA,
which takes less for most activations.
"""
KNOBS = """`--imag-last 16` imagines from the last 16 rows of each window instead of all, which
trains actor and critic on fewer starts. `--recompute 8` keeps what the backward pass of
observing needs for 8 rows at a time and computes them twice; numbers stay the same. What they do
to the time of an update is on the page [Scaling](scaling.md)."""
MEASURED = """Two updates on a CPU in a fresh process: by how much the most memory it ever held
(`VmHWM`) is above what it held when libraries were loaded and a small agent had learned once. A
CPU takes other code paths than the meta device (`observe` has a backward pass of its own there),
hence two counts; the ratio is to the count of the same tensors on the CPU."""


def sections(data: Mapping[str, Any]) -> list[Section]:
    """Counts, knobs, cards, measured points."""
    counted, measured = of(data, "counted"), of(data, "measured")
    fits = (
        f"The largest batch counted above that leaves {CONTEXT} GiB of a card to CUDA and to "
        f"what is not counted; with the knobs where only they make it fit."
    )
    images = sorted({entry["image"] for entry in counted})
    tables = [peaks(plain(counted, image), image) for image in images]
    found = [
        Section("Counted", "GiB at the worst moment of an update.", tables),
        Section("The two knobs", KNOBS, [knobs(counted)]),
        Section("Which card", fits, [cards(counted, image) for image in images]),
    ]
    if measured:
        found.append(Section("Measured beside it", MEASURED, [points(measured)]))
    return found


def plain(entries: list[Mapping[str, Any]], image: int) -> list[Mapping[str, Any]]:
    """Without knobs."""
    return [entry for entry in entries if entry["image"] == image and not entry["knobs"]]


def peaks(entries: list[Mapping[str, Any]], image: int) -> Table:
    """A row for each size, a column for each batch."""
    batches = list(dict.fromkeys(map(batch, entries)))
    rows = []
    for size in dict.fromkeys(entry["size"] for entry in entries):
        own = {batch(entry): entry["ours"] for entry in entries if entry["size"] == size}
        rows.append([size, *(gib(own.get(name)) for name in batches)])
    return Table("fit", title(image), ["GiB", *batches], rows)


def knobs(entries: list[Mapping[str, Any]]) -> Table:
    """What the knobs save, at the point where they were counted."""
    turned = [entry for entry in entries if entry["knobs"]]
    where = turned[0]
    names = list(dict.fromkeys(entry["knobs"] for entry in turned))
    same = [entry for entry in entries if alike(entry, where)]
    rows = []
    for size in dict.fromkeys(entry["size"] for entry in turned):
        own = {entry["knobs"]: entry["ours"] for entry in same if entry["size"] == size}
        cells = [f"{gib(own[name])} ({100 * (own[name] / own[''] - 1):+.0f}%)" for name in names]
        rows.append([size, gib(own[""]), *cells])
    shown = f"{batch(where)}, {title(where['image'])}"
    return Table("fit", shown, ["GiB", "as it is", *names], rows)


def alike(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two counts have the same batch and image."""
    return all(entry[key] == other[key] for key in ("batch", "length", "image"))


def cards(entries: list[Mapping[str, Any]], image: int) -> Table:
    """For each size, the largest batch that each card takes."""
    here = [entry for entry in entries if entry["image"] == image]
    rows = []
    for size in dict.fromkeys(entry["size"] for entry in here):
        own = [entry for entry in here if entry["size"] == size]
        rows.append([size, *(largest(own, (card - CONTEXT) * GIB) for card in CARDS)])
    header = ["", *(f"{card} GB" for card in CARDS)]
    return Table("fit", title(image), header, rows)


def largest(entries: list[Mapping[str, Any]], room: float) -> str:
    """The batch with most rows that has room; of equal ones the one with fewest knobs."""
    fitting = [entry for entry in entries if entry["ours"] <= room]
    if not fitting:
        return "–"
    order = [(-e["batch"] * e["length"], len(e["knobs"].split(", ")), e["knobs"]) for e in fitting]
    best = fitting[order.index(min(order))]
    return f"{batch(best)} ({best['knobs']})" if best["knobs"] else batch(best)


def points(entries: list[Mapping[str, Any]]) -> Table:
    """Measured against counted."""
    rows = []
    for entry in entries:
        keys = ("ours", "counted_cpu", "counted_meta")
        cells = [f"{entry[key] / 2**20:,.0f}" for key in keys]
        rows.append([f"{entry['size']}, {batch(entry)}", *cells, number(entry["ratio"])])
    header = ["MiB", "measured", "counted on the CPU", "counted on meta", "measured ÷ counted"]
    return Table("fit", "64 × 64 images, CPU", header, rows)


def batch(entry: Mapping[str, Any]) -> str:
    """Windows and rows."""
    return f"{entry['batch']} × {entry['length']}"


def title(image: int) -> str:
    """Of the images."""
    return f"{image} × {image} images"


def gib(value: float | None) -> str:
    """Bytes in GiB."""
    return "–" if value is None else number(value / GIB)


def of(data: Mapping[str, Any], group: str) -> list[Mapping[str, Any]]:
    """Entries of a group."""
    return [entry for name, entry in data.items() if name[0] != "_" and entry["group"] == group]
