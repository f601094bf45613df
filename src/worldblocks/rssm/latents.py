"""Latents: the stochastic part of a recurrent state-space model."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from worldblocks.distributions import OneHot
from worldblocks.layers import MLP, Linear, check_width
from worldblocks.typing import typed


class CategoricalLatent(nn.Module):
    """`groups` categoricals of `classes` each, with a prior and a posterior network.

    The prior reads the deterministic state; the posterior reads it and the embedding of the
    observation (only the embedding if `absolute`).

    Args:
        deter, embed_dim: widths of the two inputs.
        groups, classes: shape of the latent.
        hidden: width of both networks.
        prior_layers, posterior_layers: their depths.
        unimix: share of a uniform distribution in every categorical.
        absolute: let the posterior see the embedding alone.
        outscale: initial scale of the last kernels.

    Source: DreamerV2 (discrete latents), DreamerV3 (unimix 0.01; 2 and 1 layers).
    """

    def __init__(
        self,
        *,
        deter: int,
        embed_dim: int,
        groups: int,
        classes: int,
        hidden: int,
        prior_layers: int = 2,
        posterior_layers: int = 1,
        unimix: float = 0.01,
        absolute: bool = False,
        outscale: float = 1.0,
    ) -> None:
        super().__init__()
        if classes > 255:
            raise ValueError(f"a latent has at most 255 classes (stored as uint8), got {classes}")
        self.deter, self.embed_dim = deter, embed_dim
        self.groups, self.classes = groups, classes
        self.unimix, self.absolute = unimix, absolute
        seen = embed_dim if absolute else deter + embed_dim
        self.prior_mlp = MLP(deter, units=hidden, layers=prior_layers)
        self.prior_out = Linear(hidden, groups * classes, outscale=outscale)
        self.posterior_mlp = MLP(seen, units=hidden, layers=posterior_layers)
        self.posterior_out = Linear(hidden, groups * classes, outscale=outscale)

    @property
    def size(self) -> int:
        """Width of the flattened latent."""
        return self.groups * self.classes

    def initial(
        self, deter: Float[Tensor, "*batch deter"]
    ) -> Float[Tensor, "*batch groups classes"]:
        """The latent before the first row: zeros, no class."""
        return deter.new_zeros(*deter.shape[:-1], self.groups, self.classes)

    def prior(self, deter: Float[Tensor, "*batch deter"]) -> Float[Tensor, "*batch groups classes"]:
        """Raw logits of what is expected before the observation is seen."""
        return self.prior_out(self.prior_mlp(deter)).unflatten(-1, (self.groups, self.classes))

    def project(self, embed: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch hidden"]:
        """The posterior's first map on the embedding: independent of the state, so done at once."""
        check_width("embed", embed, self.embed_dim)
        linear = self.posterior_mlp[0].linear
        weight = linear.weight if self.absolute else linear.weight[:, self.deter :]  # type: ignore[index]
        return nn.functional.linear(embed, weight, linear.bias)  # type: ignore[arg-type]

    def posterior(
        self, deter: Float[Tensor, "*batch deter"], projected: Float[Tensor, "*batch hidden"]
    ) -> Float[Tensor, "*batch groups classes"]:
        """Raw logits given the observation, whose embedding has passed `project`."""
        first, *rest = self.posterior_mlp
        if not self.absolute:
            weight = first.linear.weight[:, : self.deter]  # type: ignore[index,union-attr]
            projected = projected + nn.functional.linear(deter, weight)  # type: ignore[arg-type]
        x = first.activate(projected)  # type: ignore[operator]
        for layer in rest:
            x = layer(x)
        return self.posterior_out(x).unflatten(-1, (self.groups, self.classes))

    def noise(self, is_first: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time groups"]:
        """What the samples of a sequence are drawn by, uniform, in the order of its steps."""
        batch, time = is_first.shape
        return torch.rand(time, batch, self.groups, device=is_first.device).transpose(0, 1)

    def distribution(self, logits: Float[Tensor, "*batch groups classes"]) -> OneHot:
        """The distribution of raw logits, unimix applied."""
        return OneHot(logits, unimix=self.unimix, event=1)

    def pack(self, stoch: Float[Tensor, "*batch groups classes"]) -> UInt8[Tensor, "*batch groups"]:
        """One-hots as indices, 0 for all zeros and k + 1 for class k."""
        return torch.where(stoch.amax(-1) > 0.5, stoch.argmax(-1) + 1, 0).to(torch.uint8)

    @typed
    def unpack(
        self, index: UInt8[Tensor, "*batch groups"]
    ) -> Float[Tensor, "*batch groups classes"]:
        """The one-hots of `pack`, float32."""
        classes = torch.arange(1, self.classes + 1, device=index.device)
        return (index.unsqueeze(-1) == classes).float()
