"""The base class of outputs: slicing, event axes, and the switch from samples to modes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from worldblocks._wrong_call import as_tensor, described

_modes = False


@contextmanager
def modes(on: bool = True) -> Iterator[None]:
    """Replace samples by modes, for deterministic tests and evaluation.

    `modes(False)` nested inside it samples again.
    """
    global _modes
    before, _modes = _modes, on
    try:
        yield
    finally:
        _modes = before


def wants_mode() -> bool:
    """True inside `with modes():`."""
    return _modes


class Output:
    """A prediction: tensors with the same batch axes and a number of event axes.

    An output of your own is a subclass that has `mean` and `nll` and names its `tensors`. Slices
    and `detach()` follow from that.

    Attributes:
        tensors: names of the attributes with batch axes, tensors `*batch *event *own`.
        own_axes: number of their trailing axes after batch and event axes: 1 for the classes of a
            one-hot or the bins of a number.
        event: number of trailing axes of a value that form one event.
    """

    tensors: ClassVar[tuple[str, ...]]
    own_axes: ClassVar[int] = 0

    def __init__(self, event: int = 0) -> None:
        self.event = event

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if isinstance(names := cls.__dict__.get("tensors"), str):
            raise TypeError(
                f"{cls.__name__}.tensors is the string {names!r}; write a tuple, ({names!r},)"
            )

    @property
    def mean(self) -> Float32[Tensor, "*shape"]:
        """The expected value."""
        raise NotImplementedError(f"{type(self).__name__} defines no mean")

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """The loss of a target, summed over event axes."""
        raise NotImplementedError(f"{type(self).__name__} defines no nll")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a value without its batch axes."""
        mean = self.mean
        return tuple(mean.shape[mean.ndim - self.event :])

    def __getitem__(self, index: Any) -> Self:
        """The same prediction for a part of the batch axes; an index as for a tensor."""
        index = index if isinstance(index, tuple) else (index,)
        if not any(part is Ellipsis for part in index):
            index = (*index, Ellipsis)
        # Event axes cannot be indexed away: one index too many is an error, as for a tensor.
        index = (*index, *[slice(None)] * (self.event + self.own_axes))
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        # Compute lazy values first, so that a slice has exactly the numbers of the whole.
        self._complete()
        new.__dict__.update({name: getattr(self, name)[index] for name in self.tensors})
        return new

    def detach(self) -> Self:
        """The same prediction, detached from the graph."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        self._complete()  # so that both share the lazy values
        new.__dict__.update({name: getattr(self, name).detach() for name in self.tensors})
        return new

    def _complete(self) -> None:
        """Compute all lazy values."""

    def __getattr__(self, name: str) -> Any:
        if name == "tensors":
            raise AttributeError(
                f"{type(self).__name__} does not name its tensors, so it cannot be sliced or "
                f'detached; write `tensors = ("logits",)` in the class, with the attributes that '
                f"have batch axes",
                name=name,
                obj=None,
            )
        if hasattr(type(self), name):  # its property asked for something that is not there
            return object.__getattribute__(self, name)  # again, for the message about that
        has = [
            n
            for n in ("mean", "nll", "mode", "sample", "log_prob", "entropy", "kl")
            if hasattr(type(self), n)
        ]
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}; it has {', '.join(has)}", name=name, obj=None
        )


def lacks(kept: Any, source: Tensor) -> bool:
    """True if a lazy value is missing, or was computed without the gradient needed now."""
    if kept is None:
        return True
    return source.requires_grad and not kept.requires_grad and torch.is_grad_enabled()


def sum_event(x: Float[Tensor, "*shape"], event: int) -> Float[Tensor, "*batch"]:
    """Sum over the last `event` axes."""
    return x.sum(tuple(range(-event, 0))) if event else x


def same_shape(
    output: Output, x: Shaped[Tensor, "..."], like: Shaped[Tensor, "..."], what: str = "a value"
) -> None:
    """Raise unless the shapes are equal: broadcasting would silently give a wrong loss."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{type(output).__name__} of shape {tuple(like.shape)} was given {what} that is no "
            f"tensor, but {described(x)}; {as_tensor(x, 'x')}"
        )
    if x.device != like.device and x.ndim:
        raise ValueError(
            f"{type(output).__name__} on the device {like.device} was given {what} on {x.device}; "
            f"use x.to({str(like.device)!r})"
        )
    if x.shape != like.shape:
        raise ValueError(
            f"{type(output).__name__} of shape {tuple(like.shape)} was given {what} of shape "
            f"{tuple(x.shape)}; they must be equal (nothing broadcasts)"
        )


def floats(output: Output, x: Float[Tensor, "*shape"], name: str) -> Float32[Tensor, "*shape"]:
    """The parameter `name` of an output in float32.

    Raises:
        TypeError: it is not a tensor.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{type(output).__name__} takes {name} as a float tensor, got {described(x)}; "
            f"{as_tensor(x, name)}"
        )
    return x.float()


def detached(x: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """A target without its graph; anything that is no tensor as it is, for `same_shape` to name."""
    return x.detach() if isinstance(x, Tensor) else x


def same_kind(output: Output, other: Output, kind: type[Output]) -> None:
    """Raise unless both are of one kind and have the same number of event axes."""
    if not isinstance(other, kind):
        raise TypeError(
            f"{type(output).__name__}.kl compares with another {kind.__name__}, got "
            f"{type(other).__name__}"
        )
    if output.event != other.event:
        raise ValueError(
            f"distributions with {output.event} and {other.event} event axes cannot be compared; "
            f"give both the same `event`"
        )
