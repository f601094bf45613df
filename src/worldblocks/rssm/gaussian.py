"""Carry and state of a recurrent state-space model whose stochastic part is Gaussian."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.rssm.state import merged, of_batch


class GaussianCarry(NamedTuple):
    """What a step takes, and what replay stores as it is: both parts in their own dtype.

    `deter` is what the core has accumulated, `stoch` the sampled numbers. All zeros before the
    first row of an episode.
    """

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch stoch"]

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic and the stochastic part."""
        return self.deter, self.stoch

    def detach(self) -> "GaussianCarry":
        """The same carry without its history."""
        return GaussianCarry(*(x.detach() for x in self))


class GaussianState(NamedTuple):
    """What heads and losses read: a carry, and the normals its stochastic part came from."""

    deter: Float[Tensor, "*batch deter"]
    stoch: Float[Tensor, "*batch stoch"]
    mean: Float[Tensor, "*batch stoch"]
    std: Float[Tensor, "*batch stoch"]

    @property
    def carry(self) -> GaussianCarry:
        """What the next step takes."""
        return GaussianCarry(self.deter, self.stoch)

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic and the stochastic part."""
        return self.deter, self.stoch.to(self.deter.dtype)

    def feature(self) -> Float[Tensor, "*batch feature"]:
        """The deterministic part, then the stochastic part."""
        return torch.cat(self.parts(), -1)

    def flatten(self) -> "GaussianState":
        """Merge the first two axes, `batch time ... -> batch*time ...`."""
        return GaussianState(*merged(self, self.deter))

    def detach(self) -> "GaussianState":
        """The same state without its history."""
        return GaussianState(*(x.detach() for x in self))

    def __getitem__(self, index: Any) -> Any:
        """A field by its number; or, by anything else that indexes, a part of the batch axes."""
        if isinstance(index, int):
            return tuple.__getitem__(self, index)
        return GaussianState(*(x[of_batch(index, 1)] for x in self))
