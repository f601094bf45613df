"""What is varied: one knob at a time around a base point."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from benchmarks.work import SIZES, Work


@dataclass(frozen=True, kw_only=True)
class Point:
    """One value of a knob.

    Attributes:
        label: of its row.
        work: the sizes.
        knobs: options of the recipe that are no sizes.
    """

    label: str
    work: Work
    knobs: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Points that are measured in turns, the base point among them.

    Attributes:
        name: for `--only`.
        title: what its first column is.
        points: in the order of the table.
        base: label of the point that ratios are to.
        rounds: at most so many.
    """

    name: str
    title: str
    points: list[Point]
    base: str
    rounds: int = 100


VALUES = {"batch": (1, 2, 4, 8, 16), "length": (8, 16, 32, 64), "horizon": (5, 10, 15, 30)}
KNOBS: dict[str, dict[str, int]] = {
    "as it is": {},
    "imag_last 16": {"imag_last": 16},
    "recompute 8": {"recompute": 8},
    "both": {"imag_last": 16, "recompute": 8},
}
NAMES = (*VALUES, "memory", "size", "envs")
ENVIRONMENTS = (1, 4, 16)
SIZE_ROUNDS = 3  # one call of the largest takes ten seconds


def sweep(name: str, base: Work, values: Any = None) -> Sweep:
    """The sweep of that name around a base point; `values` in place of those that it has."""
    if name == "memory":
        points = [Point(label=label, work=base, knobs=knobs) for label, knobs in KNOBS.items()]
        return Sweep(name=name, title="knob", points=points, base="as it is")
    if name == "size":
        chosen = [size for size in SIZES if size == base.size or size in (values or SIZES)]
        points = [Point(label=size, work=dataclasses.replace(base, size=size)) for size in chosen]
        return Sweep(name=name, title="size", points=points, base=base.size, rounds=SIZE_ROUNDS)
    own = getattr(base, name)
    chosen = sorted({own, *(VALUES[name] if values is None else values)})
    points = [
        Point(label=str(value), work=dataclasses.replace(base, **{name: value})) for value in chosen
    ]
    return Sweep(name=name, title=name, points=points, base=str(own))
