"""The functions of the reward language."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Features = Mapping[str, Float[Tensor, "*batch"]]
Number = Float[Tensor, "*batch"]


class Rows(NamedTuple):
    """The features an expression is evaluated on; for `rise` and `delta` the last axis is time."""

    features: Features
    is_first: Bool[Tensor, "*batch"] | None


class Function(NamedTuple):
    """A function, its number of arguments, and its usage for messages."""

    call: Callable[..., Tensor]
    fewest: int
    most: int
    usage: str
    width: int | None = None  # index of an argument that must be a positive number
    temporal: bool = False  # compares rows with the row before


def truth(x: Number) -> Bool[Tensor, "*batch"]:
    """A number is true above 1/2, so that a predicted 0 or 1 need not be exact."""
    return x > 0.5


def previous(x: Number, is_first: Bool[Tensor, "*batch"] | None) -> Number:
    """The value in the row before; in the first row of an episode, the value of that row."""
    before = torch.cat([x[..., :1], x[..., :-1]], -1)
    return before if is_first is None else torch.where(is_first, x, before)


def rise(x: Number, is_first: Bool[Tensor, "*batch"] | None) -> Bool[Tensor, "*batch"]:
    """Where x became true with this row."""
    return truth(x) & ~truth(previous(x, is_first))


def _near(rows: Rows, x: Number, target: Number, width: Number) -> Number:
    return torch.exp(-0.5 * ((x - target) / width).square())


def _above(rows: Rows, x: Number, target: Number, width: Number | None = None) -> Number:
    if width is None:
        return (x >= target).to(x.dtype)
    return (1 + (x - target) / width).clamp(0, 1)


def _below(rows: Rows, x: Number, target: Number, width: Number | None = None) -> Number:
    return _above(rows, -x, -target, width)


def _min(rows: Rows, *x: Number) -> Number:
    return torch.stack(torch.broadcast_tensors(*x)).amin(0)


def _max(rows: Rows, *x: Number) -> Number:
    return torch.stack(torch.broadcast_tensors(*x)).amax(0)


def _clip(rows: Rows, x: Number, low: Number, high: Number) -> Number:
    return torch.minimum(torch.maximum(x, low), high)


def _where(rows: Rows, condition: Number, then: Number, other: Number) -> Number:
    return torch.where(truth(condition), then, other)


FUNCTIONS = {
    "min": Function(_min, 2, 8, "min(a, b)"),
    "max": Function(_max, 2, 8, "max(a, b)"),
    "abs": Function(lambda rows, x: x.abs(), 1, 1, "abs(x)"),
    "exp": Function(lambda rows, x: x.exp(), 1, 1, "exp(x)"),
    "clip": Function(_clip, 3, 3, "clip(x, low, high)"),
    "where": Function(_where, 3, 3, "where(condition, then, otherwise)"),
    "near": Function(_near, 3, 3, "near(x, target, width)", width=2),
    "above": Function(_above, 2, 3, "above(x, target) or above(x, target, width)", width=2),
    "below": Function(_below, 2, 3, "below(x, target) or below(x, target, width)", width=2),
    "rise": Function(
        lambda rows, x: rise(x, rows.is_first).to(x.dtype), 1, 1, "rise(x)", temporal=True
    ),
    "delta": Function(
        lambda rows, x: x - previous(x, rows.is_first), 1, 1, "delta(x)", temporal=True
    ),
}
