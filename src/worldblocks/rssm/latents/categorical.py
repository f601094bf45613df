"""The categorical latent of DreamerV2 and DreamerV3."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from worldblocks.distributions import OneHot
from worldblocks.rssm.latents.networks import PriorPosterior
from worldblocks.typing import typed


class CategoricalLatent(PriorPosterior):
    """`groups` categoricals of `classes` each, with a prior and a posterior network.

    The prior reads the deterministic state; the posterior reads it and the embedding of the
    observation (only the embedding if `absolute`). Their parameters are raw logits.

    Args:
        deter, embed_dim: widths of the two inputs.
        groups, classes: shape of the latent.
        hidden: width of both networks.
        prior_layers, posterior_layers: their depths.
        unimix: share of a uniform distribution in every categorical.
        absolute: the posterior reads the embedding alone (a *decoupled* posterior).
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
        if classes > 255:
            raise ValueError(f"a latent has at most 255 classes (stored as uint8), got {classes}")
        super().__init__(
            deter=deter,
            embed_dim=embed_dim,
            out=groups * classes,
            hidden=hidden,
            prior_layers=prior_layers,
            posterior_layers=posterior_layers,
            absolute=absolute,
            outscale=outscale,
        )
        self.groups, self.classes, self.unimix = groups, classes, unimix

    @property
    def shape(self) -> tuple[int, int]:
        """Of a latent: `groups classes`."""
        return self.groups, self.classes

    def prior(self, deter: Float[Tensor, "*batch deter"]) -> Float[Tensor, "*batch groups classes"]:
        """Raw logits before the observation is seen."""
        return self.prior_output(deter).unflatten(-1, (self.groups, self.classes))

    def posterior(
        self,
        deter: Float[Tensor, "*batch deter"] | None,
        projected: Float[Tensor, "*batch hidden"],
    ) -> Float[Tensor, "*batch groups classes"]:
        """Raw logits given the observation; `projected` is the result of `project`."""
        return self.posterior_output(deter, projected).unflatten(-1, (self.groups, self.classes))

    def noise(self, is_first: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time groups"]:
        """Uniform noise for the samples of a sequence, in the order of its steps."""
        batch, time = is_first.shape
        return torch.rand(time, batch, self.groups, device=is_first.device).transpose(0, 1)

    def distribution(self, parameters: Float[Tensor, "*batch groups classes"]) -> OneHot:
        """The distribution with these raw logits, unimix applied."""
        return OneHot(parameters, unimix=self.unimix, event=1)

    @typed
    def pack(self, stoch: Float[Tensor, "*batch groups classes"]) -> UInt8[Tensor, "*batch groups"]:
        """One-hots as indices: 0 for all zeros (the first carry), k + 1 for class k."""
        return torch.where(stoch.amax(-1) > 0.5, stoch.argmax(-1) + 1, 0).to(torch.uint8)

    @typed
    def unpack(
        self, packed: UInt8[Tensor, "*batch groups"], like: Float[Tensor, "..."]
    ) -> Float[Tensor, "*batch groups classes"]:
        """The one-hots that were packed, in the dtype of `like`."""
        classes = torch.arange(1, self.classes + 1, device=packed.device)
        return (packed.unsqueeze(-1) == classes).to(like.dtype)
