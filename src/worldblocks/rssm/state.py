"""What a recurrent state-space model carries from step to step, and what heads read of it."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


class Carry(NamedTuple):
    """What a step takes and replay stores: the deterministic and the stochastic part.

    `deter` is what the core has accumulated, `stoch` the sampled one-hots. All zeros before the
    first row of an episode.
    """

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch groups classes"]

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic part, and the stochastic part flattened."""
        return self.deter, self.stoch.flatten(-2)

    def detach(self) -> "Carry":
        """The same carry without its history."""
        return Carry(*(x.detach() for x in self))


class Packed(NamedTuple):
    """A carry as replay stores it: `deter` in its own dtype and the index of each one-hot.

    Index 0 means all zeros (the initial carry), k + 1 the one-hot of class k, so that
    `unpack(pack(carry))` gives back the carry exactly.
    """

    deter: Float[Tensor, "*batch deter"]
    index: UInt8[Tensor, "*batch groups"]  # type: ignore[assignment]


class State(NamedTuple):
    """What heads and losses read: a carry and the raw logits its stochastic part came from."""

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch groups classes"]
    logits: Float[Tensor, "*batch groups classes"]

    @property
    def carry(self) -> Carry:
        """What the next step takes."""
        return Carry(self.deter, self.stoch)

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic part, and the stochastic part flattened."""
        return self.deter, self.stoch.flatten(-2).to(self.deter.dtype)

    def feature(self) -> Float[Tensor, "*batch feature"]:
        """The deterministic part, then the flattened stochastic part."""
        return torch.cat(self.parts(), -1)

    def flatten(self) -> "State":
        """Merge the first two axes, `batch time ... -> batch*time ...`."""
        return State(*merged(self, self.deter))

    def detach(self) -> "State":
        """The same state without its history."""
        return State(*(x.detach() for x in self))

    def __getitem__(self, index: Any) -> Any:
        """A field by its number; or, by anything else that indexes, a part of the batch axes."""
        if isinstance(index, int):
            return tuple.__getitem__(self, index)
        vector, matrix = of_batch(index, 1), of_batch(index, 2)
        return State(self.deter[vector], self.stoch[matrix], self.logits[matrix])


def merged(
    fields: tuple[Float[Tensor, "..."], ...], deter: Float[Tensor, "..."]
) -> list[Float[Tensor, "..."]]:
    """The fields of a state, `batch time ... -> batch*time ...`."""
    if deter.ndim < 3:
        raise ValueError(
            f"State.flatten merges batch and time, got deter of shape {tuple(deter.shape)}"
        )
    return [x.flatten(0, 1) for x in fields]


def of_batch(index: Any, own: int) -> tuple[Any, ...]:
    """An index of the batch axes as one of all axes, the last `own` of which stay whole."""
    index = index if isinstance(index, tuple) else (index,)
    if not any(part is Ellipsis for part in index):
        index = (*index, Ellipsis)
    return (*index, *[slice(None)] * own)
