"""Descriptions of observations and actions.

Blocks, replay buffers and environments share these four descriptions and nothing else. Inside the
agent an action is one flat float vector, the concatenation of all parts in sorted key order.
Discrete parts become one-hots, continuous parts keep their values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Bool, Float32, Shaped

from worldblocks._wrong_call import described


@dataclass(frozen=True)
class Image:
    """A `height width channel` uint8 image."""

    height: int
    width: int
    channel: int

    def __post_init__(self) -> None:
        _check_sizes(self, self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.channel)


@dataclass(frozen=True)
class Grid:
    """A board or a map: uint8 classes 0 … `classes` - 1 of shape `height width channel`.

    A 8×8 board with a plane of 0 and 1 for each of 12 pieces is `Grid(8, 8, 12, 2)`. Where an
    `Image` has brightness, a grid has names: it is encoded as one-hots and decoded to a categorical
    for each cell and channel.
    """

    height: int
    width: int
    channels: int
    classes: int

    def __post_init__(self) -> None:
        _check_sizes(self, (*self.shape, self.classes))
        if self.classes > 256:
            raise ValueError(f"a grid is uint8 and has 256 classes at most; got {self}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.channels)

    def one_hot(
        self, value: Shaped[torch.Tensor, "*batch height width channel"]
    ) -> Bool[torch.Tensor, "*batch height width channel classes"]:
        """The one-hots of classes; a value that is not a class is all zeros."""
        return value.unsqueeze(-1) == torch.arange(self.classes, device=value.device)


@dataclass(frozen=True)
class Continuous:
    """A float32 array of a given shape. Actions lie in [-1, 1]."""

    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_sizes(self, self.shape)

    @property
    def size(self) -> int:
        """Length of a value in a flat vector."""
        return prod(self.shape)


@dataclass(frozen=True)
class Discrete:
    """Integers in 0 … `classes` - 1 of a given shape, each one-hot in a flat vector."""

    classes: int
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_sizes(self, (self.classes,))
        _check_sizes(self, self.shape)

    @property
    def size(self) -> int:
        """Length of a value in a flat vector."""
        return self.classes * prod(self.shape)


def _check_sizes(space: Any, sizes: Any) -> None:
    whole = isinstance(sizes, tuple) and all(isinstance(n, Integral) and int(n) > 0 for n in sizes)
    if not whole:
        raise ValueError(
            f"the sizes of a space are positive integers, and a shape is a tuple of them such as "
            f"(3,); got {space}"
        )


Space = Image | Grid | Continuous | Discrete
Spaces = Mapping[str, Space]
Actions = Mapping[str, Continuous | Discrete]


def check_spaces(
    name: str, spaces: Any, kinds: tuple[type, ...] = (Image, Grid, Continuous, Discrete)
) -> None:
    """Check that `spaces` describe observations or actions by key; `name` is what takes them.

    Raises:
        TypeError: they are not a dict, or a value is not a space, or not one of `kinds`.
    """
    theirs = "wb.envs.spaces_of(space) makes them of a gymnasium space"
    if not isinstance(spaces, Mapping):
        raise TypeError(
            f"{name} takes spaces by key, such as {{'action': wb.spaces.Discrete(3)}}, got "
            f"{spaces!r}; {theirs}"
        )
    for key, space in spaces.items():
        if not isinstance(space, kinds):
            if isinstance(space, tuple | list):
                theirs = f"use wb.spaces.Continuous({tuple(space)})"
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"{name} takes {wanted} for each key, got {space!r} for {key!r}; {theirs}"
            )


def action_size(actions: Actions) -> int:
    """Length of the flat action vector.

    >>> action_size({"jump": Discrete(2), "arm": Continuous((3,))})
    5
    """
    try:
        return sum(space.size for space in actions.values())
    except AttributeError:
        check_spaces("action_size", actions, (Continuous, Discrete))
        raise


def split_action(actions: Actions, vector: Any) -> dict[str, Any]:
    """Split flat vectors `... action` into one action per key; takes NumPy arrays or tensors.

    A discrete part becomes the index of its largest entry, int64 of shape `... *shape`. A
    continuous part keeps its float32 values.

    >>> import numpy as np
    >>> action = np.array([0.5, -1.0, 0.25, 0.0, 1.0], np.float32)
    >>> split_action({"jump": Discrete(2), "arm": Continuous((3,))}, action)["jump"]
    np.int64(1)
    """
    size = action_size(actions)
    if not hasattr(vector, "ndim"):
        raise TypeError(
            f"split_action takes a tensor or an array of flat vectors, got {described(vector)}; "
            f"one_hot_action makes one of values by key"
        )
    if not vector.ndim or vector.shape[-1] != size:
        raise ValueError(
            f"an action of {dict(actions)} is a vector of {size} numbers, got shape "
            f"{tuple(vector.shape)}"
        )
    parts, start = {}, 0
    for key in sorted(actions):
        space = actions[key]
        part = vector[..., start : start + space.size]
        start += space.size
        lead = tuple(vector.shape[:-1])
        if isinstance(space, Discrete):
            parts[key] = part.reshape(*lead, *space.shape, space.classes).argmax(-1)
        else:
            parts[key] = part.reshape((*lead, *space.shape))
    return parts


def one_hot_action(
    actions: Actions, values: Mapping[str, Any]
) -> Float32[torch.Tensor, "*batch action"]:
    """Flat action vectors from values by key (tensors or arrays): the inverse of `split_action`.

    >>> one_hot_action({"jump": Discrete(2), "arm": Continuous()}, {"jump": 1, "arm": 0.5}).tolist()
    [0.5, 0.0, 1.0]
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            f"one_hot_action takes values by key, {list(actions)}, got {described(values)}; "
            f"split_action makes them of flat vectors"
        )
    if set(values) != set(actions):
        raise ValueError(f"an action has the keys {sorted(actions)}, got {sorted(values)}")
    parts = []
    for key in sorted(actions):
        space, value = actions[key], torch.as_tensor(values[key])
        axes = value.ndim - len(space.shape)
        lead = value.shape[:axes]
        if axes < 0 or value.shape[axes:] != space.shape:
            raise ValueError(f"action {key!r} is {space}, got shape {tuple(value.shape)}")
        if isinstance(space, Discrete):
            if value.numel() and not 0 <= value.min() <= value.max() < space.classes:
                raise ValueError(
                    f"action {key!r} must be in 0 … {space.classes - 1}, got "
                    f"{value.min().item()} … {value.max().item()}"
                )
            value = value.unsqueeze(-1) == torch.arange(space.classes, device=value.device)
        parts.append(value.float().reshape(*lead, space.size))
    return torch.cat(parts, -1)
