"""What one row is made of, and whether a given row is."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor


class Spec(NamedTuple):
    """One entry of a row of one stream."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


Layout = dict[str, Spec]  # by name: obs/image, prev_action, reward, …, carry/deter
Values = Mapping[str, Shaped[Tensor, "..."]]

Kind = TypeVar("Kind")

# What is the same in every replay; `action` stands for the one axis whose size may vary.
FIXED = {
    "prev_action": (torch.float32, ("action",)),
    "reward": (torch.float32, ()),
    "is_first": (torch.bool, ()),
    "is_last": (torch.bool, ()),
    "is_terminal": (torch.bool, ()),
}
OBSERVED = (
    torch.float32,
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


def first_layout(values: Values, streams: int, context: int) -> Layout:
    """The layout of a first row of `streams` streams, each value `env ...`.

    Raises:
        ValueError: a value is not what it should be in any replay, or there is no carry to give
            context.
    """
    if context and not carried(values):
        raise ValueError(
            "context=1 starts windows from stored carries, and carry holds no tensor; add rows "
            "with a carry, or make the replay with context=0"
        )
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (streams,):
            raise ValueError(
                f"{say(name)} is {show(value)}; a row of this replay is a tensor whose first axis "
                f"is its {streams} streams"
            )
        if name in FIXED:
            dtype, shape = FIXED[name]
            if value.dtype != dtype or value.ndim != 1 + len(shape):
                expected = ", ".join(map(str, (streams, *shape)))
                raise ValueError(
                    f"{say(name)} is {show(value)}; it must be {_name(dtype)}[{expected}]"
                )
        elif name.startswith("obs/") and (
            value.dtype not in OBSERVED or (value.is_floating_point() and value.ndim > 3)
        ):
            raise ValueError(
                f"{say(name)} is {show(value)}; an image must be uint8 `height width channel`, "
                f"any other observation integers, booleans, or float32 of at most two axes"
            )
    return {name: Spec(value.dtype, tuple(value.shape[1:])) for name, value in values.items()}


def check(values: Values, layout: Layout, lead: tuple[int, ...]) -> None:
    """Whether the values are those of a layout, each with the axes `lead` in front.

    Raises:
        ValueError: names the first that is unknown, missing, or of another dtype or shape.
    """
    if values.keys() != layout.keys():
        _raise_other_names(values, layout)
    for name, (dtype, shape) in layout.items():
        value = values[name]
        if not isinstance(value, Tensor) or value.dtype != dtype or value.shape != lead + shape:
            expected = list(lead + shape)
            raise ValueError(
                f"{say(name)} is {show(value)}; here it must be {_name(dtype)}{expected}"
            )


def finite(layout: Layout) -> list[str]:
    """The names of what must be finite: the reward and float observations."""
    observed = [name for name, spec in layout.items() if spec.dtype.is_floating_point]
    return [name for name in observed if name == "reward" or name.startswith("obs/")]


def check_finite(name: str, array: NDArray[Any], row: int) -> None:
    """Whether one entry of a row, `env ...`, is finite.

    Raises:
        ValueError: names the entry, the stream and the row of the first number that is not.
    """
    finite = np.isfinite(array)
    if not finite.all():
        stream = np.argwhere(~finite)[0, 0]
        raise ValueError(
            f"{say(name)} of stream {stream} holds {array[~finite][0]} at row {row}; "
            f"only finite rows are stored, so nothing was added"
        )


def as_array(tensor: Shaped[Tensor, "..."]) -> NDArray[Any]:
    """A tensor seen by NumPy, which writes a few bytes in half the time that torch takes.

    NumPy has no bfloat16: integers of the same bits stand for it.
    """
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError):  # it has a gradient or is on a device; to ask takes longer
        return tensor.numpy(force=True)


def carried(layout: Mapping[str, Kind]) -> dict[str, Kind]:
    """The part of a layout, or of a row, that is the carry."""
    return {name: spec for name, spec in layout.items() if name.partition("/")[0] == "carry"}


def layout_to_json(layout: Layout) -> dict[str, Any]:
    """A layout as JSON."""
    return {name: [_name(spec.dtype), list(spec.shape)] for name, spec in layout.items()}


def layout_from_json(layout: Mapping[str, Any]) -> Layout:
    """The inverse of `layout_to_json`."""
    return {
        name: Spec(getattr(torch, dtype), tuple(shape)) for name, (dtype, shape) in layout.items()
    }


def say(name: str) -> str:
    """A name as a person would say it."""
    kind, _, key = name.partition("/")
    kind = {"obs": "observation"}.get(kind, kind)
    return f"{kind} {key!r}" if key else kind


def show(value: Any) -> str:
    """The dtype and shape of a tensor, or what stands in its place."""
    if isinstance(value, Tensor):
        return f"{_name(value.dtype)}{list(value.shape)}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _raise_other_names(values: Values, layout: Layout) -> None:
    unknown = sorted(values.keys() - layout.keys())
    name = unknown[0] if unknown else min(layout.keys() - values.keys())
    kind = name.partition("/")[0]
    stored = sorted(key.removeprefix(f"{kind}/") for key in layout if key.partition("/")[0] == kind)
    what = f"unknown {say(name)}" if unknown else f"{say(name)} is missing"
    raise ValueError(f"{what}; this replay stores {stored}")
