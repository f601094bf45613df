"""What a recurrent state-space model carries from step to step, and what heads read of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils import _pytree as pytree


class Carry(NamedTuple):
    """What a step takes and replay stores. All zeros before the first row of an episode.

    Attributes:
        memory: what the core remembers, any pytree of tensors `*batch ...`; for a GRU its
            deterministic state, `*batch deter`.
        stoch: the latent that was sampled, `*batch stoch` or, categorical, `*batch groups classes`.
    """

    memory: Any
    stoch: Float[Tensor, "*batch stoch"] | Float[Tensor, "*batch groups classes"]

    def detach(self) -> "Carry":
        """The same carry without its graph."""
        return pytree.tree_map(torch.detach, self)


class Packed(NamedTuple):
    """A carry as replay stores it, each part packed by the core and by the latent."""

    memory: Any
    stoch: Any


class Dropped(NamedTuple):
    """In place of a memory that was not kept, see `State.light`."""


class State(NamedTuple):
    """What heads and losses read: a row's deterministic part, its latent, and where that came from.

    Attributes:
        deter: what the core computed.
        stoch: the latent that was sampled, `*batch stoch` or, categorical, `*batch groups classes`.
        parameters: of the distribution it was drawn from, as the latent has them: raw logits, or a
            mean and a standard deviation.
        memory: of the core after this row; `()` if it is `deter` itself, as for a GRU.
    """

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch stoch"] | Float[Tensor, "*batch groups classes"]
    parameters: Any
    memory: Any = ()

    @property
    def carry(self) -> Carry:
        """What the next step takes.

        Raises:
            ValueError: the state is light, its memory was dropped.
        """
        if isinstance(self.memory, Dropped):
            raise ValueError(
                "this state is light: imagined rows keep no memory of their core, so nothing "
                "continues from them; step from a state of `observe` or `imagine_step`"
            )
        return Carry(self.deter if _is_deter(self.memory) else self.memory, self.stoch)

    def light(self) -> Self:
        """The state without a memory larger than `deter`; nothing continues from it then."""
        return self if _is_deter(self.memory) else self._replace(memory=Dropped())

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic part, and the stochastic part flattened, in the dtype of the first."""
        return self.deter, self.stoch.flatten(self.deter.ndim - 1).to(self.deter.dtype)

    def feature(self) -> Float[Tensor, "*batch feature"]:
        """The deterministic part, then the flattened stochastic part."""
        return torch.cat(self.parts(), -1)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The state with a function of each of its tensors."""
        return pytree.tree_map(function, self)

    def flatten(self) -> Self:
        """Merge the first two axes, `batch time ... -> batch*time ...`."""
        if self.deter.ndim < 3:
            raise ValueError(
                f"State.flatten merges batch and time, got deter of shape {tuple(self.deter.shape)}"
            )
        return self.map(lambda x: x.flatten(0, 1))

    def detach(self) -> Self:
        """The same state without its graph."""
        return self.map(torch.detach)

    def __getitem__(self, index: Any) -> Any:
        """A field by its number; or, by anything else that indexes, a part of the batch axes."""
        if isinstance(index, int):
            return tuple.__getitem__(self, index)
        index = index if isinstance(index, tuple) else (index,)
        if not any(part is Ellipsis for part in index):
            index = (*index, Ellipsis)
        batch = self.deter.ndim - 1
        return self.map(lambda x: x[(*index, *[slice(None)] * (x.ndim - batch))])


class Acting(NamedTuple):
    """What an agent that acts keeps from one row to the next.

    Attributes:
        dynamics: the carry of its dynamics block at the last row.
        prev_action: the action chosen there, which leads to the next row; zeros before the first.
    """

    dynamics: Any
    prev_action: Float[Tensor, "env action"]


def _is_deter(memory: Any) -> bool:
    return type(memory) is tuple and not memory
