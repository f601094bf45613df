"""Latents: the stochastic part of a recurrent state-space model."""

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn.functional import softplus

from worldblocks.distributions import Normal, OneHot
from worldblocks.rssm.gaussian import GaussianCarry, GaussianState
from worldblocks.rssm.networks import PriorPosterior
from worldblocks.rssm.state import Carry, Packed, State
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
    def size(self) -> int:
        """Width of the flattened latent."""
        return self.groups * self.classes

    def initial(self, deter: Float[Tensor, "*batch deter"]) -> Carry:
        """The carry before the first row: zeros, no class."""
        return Carry(deter, deter.new_zeros(*deter.shape[:-1], self.groups, self.classes))

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

    def sample(
        self,
        parameters: Float[Tensor, "*batch groups classes"],
        noise: Float[Tensor, "*batch groups"] | None = None,
    ) -> Float[Tensor, "*batch groups classes"]:
        """One-hots with the straight-through gradient; `noise` is uniform in [0, 1)."""
        return self.distribution(parameters).sample(noise)

    def state(
        self,
        deter: Float[Tensor, "*batch deter"],
        stoch: Float[Tensor, "*batch groups classes"],
        parameters: Float[Tensor, "*batch groups classes"],
    ) -> State:
        """The state of a sample and the raw logits it was drawn from."""
        return State(deter, stoch.to(deter.dtype), parameters)

    def drawn_from(self, state: State) -> OneHot:
        """The distribution that a state's latent was drawn from."""
        return self.distribution(state.logits)

    @typed
    def pack(self, carry: Carry) -> Packed:
        """One-hots as indices, 0 for all zeros and k + 1 for class k."""
        chosen = torch.where(carry.stoch.amax(-1) > 0.5, carry.stoch.argmax(-1) + 1, 0)
        return Packed(carry.deter, chosen.to(torch.uint8))

    @typed
    def unpack(self, packed: Packed) -> Carry:
        """The carry of `pack`, exactly."""
        classes = torch.arange(1, self.classes + 1, device=packed.index.device)
        onehot = packed.index.unsqueeze(-1) == classes
        return Carry(packed.deter, onehot.to(packed.deter.dtype))


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

    def initial(self, deter: Float[Tensor, "*batch deter"]) -> GaussianCarry:
        """The carry before the first row: zeros."""
        return GaussianCarry(deter, deter.new_zeros(*deter.shape[:-1], self.size))

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

    def sample(
        self,
        parameters: tuple[Float[Tensor, "*batch stoch"], Float[Tensor, "*batch stoch"]],
        noise: Float[Tensor, "*batch stoch"] | None = None,
    ) -> Float[Tensor, "*batch stoch"]:
        """Numbers with the reparametrised gradient; `noise` is standard normal."""
        return self.distribution(parameters).sample(noise)

    def state(
        self,
        deter: Float[Tensor, "*batch deter"],
        stoch: Float[Tensor, "*batch stoch"],
        parameters: tuple[Float[Tensor, "*batch stoch"], Float[Tensor, "*batch stoch"]],
    ) -> GaussianState:
        """The state of a sample and the normals it was drawn from."""
        return GaussianState(deter, stoch.to(deter.dtype), *parameters)

    def drawn_from(self, state: GaussianState) -> Normal:
        """The distribution that a state's latent was drawn from."""
        return self.distribution((state.mean, state.std))

    @typed
    def pack(self, carry: GaussianCarry) -> GaussianCarry:
        """The carry itself: numbers are stored as they are."""
        return carry

    @typed
    def unpack(self, packed: GaussianCarry) -> GaussianCarry:
        """The carry that was packed."""
        return packed
