"""The layout of a row (names, dtypes, shapes), and checks of rows against it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from worldblocks._wrong_call import as_tensor, described, did_you_mean


class Spec(NamedTuple):
    """The dtype and shape of one entry of a row of one stream."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


Layout = dict[str, Spec]  # by name: obs/image, prev_action, reward, …, carry/deter
Values = Mapping[str, Shaped[Tensor, "..."]]

Kind = TypeVar("Kind")

# The same in every replay; the size of the axis `action` may vary.
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


def first_layout(values: Values, lead: int, context: int) -> Layout:
    """The layout of a row from the first values, whose first axis has the size `lead`.

    Raises:
        ValueError: a value is not valid in any replay, or there is no carry for the context.
    """
    if context and not carried(values):
        raise ValueError(
            "context=1 starts windows from stored carries, but carry has no tensors; add rows with "
            "a carry, or create the replay with context=0"
        )
    for name, value in values.items():
        if not isinstance(value, Tensor) or value.shape[:1] != (lead,):
            raise ValueError(
                f"{readable(name)} is {described(value)}; each value must be a tensor whose "
                f"first axis is the {lead} rows{_remedy(value, None)}"
            )
        if name in FIXED:
            dtype, shape = FIXED[name]
            if value.dtype != dtype or value.ndim != 1 + len(shape):
                expected = ", ".join(map(str, (lead, *shape)))
                raise ValueError(
                    f"{readable(name)} is {described(value)}; it must be {_name(dtype)}[{expected}]"
                    f"{_remedy(value, dtype)}"
                )
        elif name.startswith("obs/") and (
            value.dtype not in OBSERVED or (value.is_floating_point() and value.ndim > 3)
        ):
            raise ValueError(
                f"{readable(name)} is {described(value)}; an image must be uint8 `height width "
                f"channel`, any other observation integer, boolean or float32 with at most 2 axes"
            )
    return {name: Spec(value.dtype, tuple(value.shape[1:])) for name, value in values.items()}


def check_streams(streams: Sequence[int] | Int64[Tensor, " env"], count: int) -> NDArray[np.int64]:
    """Streams as an array.

    Raises:
        ValueError: they are not the numbers of different streams of a replay with `count` streams.
    """
    chosen = np.asarray(streams.cpu() if isinstance(streams, Tensor) else streams)
    if (
        chosen.ndim != 1
        or chosen.dtype.kind not in "iu"  # a mask would be read as the streams 0 and 1
        or len(set(chosen.tolist())) < max(len(chosen), 1)
        or chosen.min() < 0
        or chosen.max() >= count
    ):
        raise ValueError(
            f"got rows of the streams {chosen.tolist()}; this replay has the streams 0 to "
            f"{count - 1}, and each may have one row; give their numbers, such as "
            f"mask.nonzero().flatten()"
        )
    return chosen.astype(np.int64)


def check(values: Values, layout: Layout, lead: tuple[int, ...]) -> None:
    """Check that values match a layout, each with the leading axes `lead`.

    Raises:
        ValueError: names the first value that is unknown, missing, or of another dtype or shape.
    """
    if values.keys() != layout.keys():
        _raise_other_names(values, layout)
    for name, (dtype, shape) in layout.items():
        value = values[name]
        if not isinstance(value, Tensor) or value.dtype != dtype or value.shape != lead + shape:
            expected = list(lead + shape)
            raise ValueError(
                f"{readable(name)} is {described(value)}; here it must be {_name(dtype)}{expected}"
                f"{_remedy(value, dtype)}"
            )


def finite(layout: Layout) -> list[str]:
    """The names of values that must be finite: the reward and float observations."""
    observed = [name for name, spec in layout.items() if spec.dtype.is_floating_point]
    return [name for name in observed if name == "reward" or name.startswith("obs/")]


def check_begins(
    after_end: NDArray[np.bool_], stream: NDArray[np.int64], time: NDArray[np.int64]
) -> None:
    """Check that no row goes on after the end of an episode; `after_end` marks those that do.

    Raises:
        ValueError: names the stream and the row of the first one.
    """
    if after_end.any():
        place = int(after_end.argmax())
        raise ValueError(
            f"row {time[place]} of stream {stream[place]} is not is_first, but the row before it "
            f"is is_last; an episode begins with a row of its own, the observation of the reset: "
            f"of a vector of gymnasium, take AutoresetMode.NEXT_STEP, not SAME_STEP"
        )


def check_finite(
    name: str, array: NDArray[Any], stream: NDArray[np.int64], time: NDArray[np.int64]
) -> None:
    """Check that a value of rows, `row ...`, is finite; `stream` and `time` are those of each row.

    Raises:
        ValueError: names the value, the stream and the row of the first non-finite number.
    """
    finite = np.isfinite(array)
    if not finite.all():
        first = np.argwhere(~finite)[0, 0]
        raise ValueError(
            f"{readable(name)} of stream {stream[first]} holds {array[~finite][0]} at row "
            f"{time[first]}; only finite rows are stored, so nothing was added"
        )


def as_array(tensor: Shaped[Tensor, "..."]) -> NDArray[Any]:
    """View a tensor as a NumPy array, which writes a few bytes in half the time of torch.

    NumPy has no bfloat16, so such tensors are viewed as int16.
    """
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.int16)
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError):  # requires grad or is on a device; checking is slower
        return tensor.numpy(force=True)


def carried(layout: Mapping[str, Kind]) -> dict[str, Kind]:
    """The entries of a layout or a row that belong to the carry."""
    return {name: spec for name, spec in layout.items() if name.partition("/")[0] == "carry"}


def layout_to_json(layout: Layout) -> dict[str, Any]:
    """A layout as JSON."""
    return {name: [_name(spec.dtype), list(spec.shape)] for name, spec in layout.items()}


def layout_from_json(layout: Mapping[str, Any]) -> Layout:
    """The inverse of `layout_to_json`."""
    return {
        name: Spec(getattr(torch, dtype), tuple(shape)) for name, (dtype, shape) in layout.items()
    }


def readable(name: str) -> str:
    """A name for messages, such as "observation 'image'" for `obs/image`."""
    kind, _, key = name.partition("/")
    kind = {"obs": "observation"}.get(kind, kind)
    return f"{kind} {key!r}" if key else kind


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _remedy(value: Any, dtype: torch.dtype | None) -> str:
    """How to get a tensor, or the dtype that is wanted, if it is another."""
    if not isinstance(value, Tensor):
        return f"; {as_tensor(value, 'x')}"
    return f"; use x.to({dtype})" if dtype not in (None, value.dtype) else ""


def _raise_other_names(values: Values, layout: Layout) -> None:
    unknown = sorted(values.keys() - layout.keys())
    name = unknown[0] if unknown else min(layout.keys() - values.keys())
    kind = name.partition("/")[0]
    stored = sorted(key.removeprefix(f"{kind}/") for key in layout if key.partition("/")[0] == kind)
    near = did_you_mean(name.partition("/")[2], stored) if unknown else ""
    what = f"unknown {readable(name)}" if unknown else f"{readable(name)} is missing"
    raise ValueError(f"{what}; this replay stores {stored}{near}")
