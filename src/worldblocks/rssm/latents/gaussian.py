"""The Gaussian latent of PlaNet and DreamerV1."""

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn.functional import softplus

from worldblocks.distributions import Normal
from worldblocks.rssm.latents.networks import PriorPosterior
from worldblocks.typing import typed


class GaussianLatent(PriorPosterior):
    """`size` independent normals, with a prior and a posterior network.

    The prior reads the deterministic state; the posterior reads it and the embedding of the
    observation (only the embedding if `absolute`). Their parameters are a mean and a standard
    deviation:

        mean, raw = network(...)
        std       = softplus(raw) + min_std

    Samples are reparametrised, `mean + std * noise`. Networks are of `Layer` (RMSNorm and SiLU),
    where the papers have plain ELU and ReLU layers.

    Args:
        deter, embed_dim: widths of the two inputs.
        size: how many numbers the latent has.
        hidden: width of both networks.
        prior_layers, posterior_layers: their depths.
        min_std: smallest standard deviation, of prior and posterior.
        absolute: the posterior reads the embedding alone (a *decoupled* posterior).
        outscale: initial scale of the last kernels.

    Source: PlaNet (arXiv:1811.04551), DreamerV1 (arXiv:1912.01603): 30 numbers, standard
    deviation at least 0.1, 1 layer each.
    """

    def __init__(
        self,
        *,
        deter: int,
        embed_dim: int,
        size: int,
        hidden: int,
        prior_layers: int = 1,
        posterior_layers: int = 1,
        min_std: float = 0.1,
        absolute: bool = False,
        outscale: float = 1.0,
    ) -> None:
        if not min_std > 0:
            raise ValueError(f"GaussianLatent needs min_std > 0, got {min_std}")
        super().__init__(
            deter=deter,
            embed_dim=embed_dim,
            out=2 * size,
            hidden=hidden,
            prior_layers=prior_layers,
            posterior_layers=posterior_layers,
            absolute=absolute,
            outscale=outscale,
        )
        self.size, self.min_std = size, min_std

    @property
    def shape(self) -> tuple[int]:
        """Of a latent: `size`."""
        return (self.size,)

    def prior(
        self, deter: Float[Tensor, "*batch deter"]
    ) -> tuple[Float32[Tensor, "*batch stoch"], Float32[Tensor, "*batch stoch"]]:
        """Mean and standard deviation before the observation is seen."""
        return self._normal(self.prior_output(deter))

    def posterior(
        self,
        deter: Float[Tensor, "*batch deter"] | None,
        projected: Float[Tensor, "*batch hidden"],
    ) -> tuple[Float32[Tensor, "*batch stoch"], Float32[Tensor, "*batch stoch"]]:
        """Mean and standard deviation given the observation, projected by `project`."""
        return self._normal(self.posterior_output(deter, projected))

    def _normal(self, out: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = out.float().chunk(2, -1)
        return mean, softplus(raw) + self.min_std

    def noise(self, is_first: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time stoch"]:
        """Standard normal noise for the samples of a sequence, in the order of its steps."""
        batch, time = is_first.shape
        return torch.randn(time, batch, self.size, device=is_first.device).transpose(0, 1)

    def distribution(
        self, parameters: tuple[Float[Tensor, "*batch stoch"], Float[Tensor, "*batch stoch"]]
    ) -> Normal:
        """Normals with this mean and standard deviation."""
        return Normal(*parameters, event=1)

    @typed
    def pack(self, stoch: Float[Tensor, "*batch stoch"]) -> Float[Tensor, "*batch stoch"]:
        """The numbers as they are."""
        return stoch

    @typed
    def unpack(
        self, packed: Float[Tensor, "*batch stoch"], like: Float[Tensor, "..."]
    ) -> Float[Tensor, "*batch stoch"]:
        """The numbers that were packed."""
        return packed
