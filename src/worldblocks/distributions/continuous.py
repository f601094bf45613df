"""Distributions over real numbers."""

import math

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from worldblocks.distributions.output import (
    Output,
    detached,
    floats,
    same_kind,
    same_shape,
    sum_event,
    wants_mode,
)


class Normal(Output):
    """Independent normal distributions with reparameterised samples.

    Losses refuse a negative `std` (seen in eager mode on a CPU only).

    >>> Normal(torch.tensor(1.0), torch.tensor(2.0)).sample(noise=torch.tensor(0.5)).item()
    2.0
    """

    tensors = ("_mean", "std")

    def __init__(
        self, mean: Float[Tensor, "*shape"], std: Float[Tensor, "*shape"], event: int = 0
    ) -> None:
        super().__init__(event)
        self._mean, self.std = floats(self, mean, "mean"), floats(self, std, "std")
        same_shape(self, std, mean, "a std")

    @property
    def mean(self) -> Float32[Tensor, "*shape"]:
        """The mean."""
        return self._mean

    @property
    def mode(self) -> Float32[Tensor, "*shape"]:
        """The mean."""
        return self._mean

    def sample(self, noise: Float[Tensor, "*shape"] | None = None) -> Float32[Tensor, "*shape"]:
        """`mean + std * noise`; `noise` is standard normal of the same shape."""
        if wants_mode():
            return self.mode
        if noise is None:
            noise = torch.randn_like(self._mean)
        same_shape(self, noise, self._mean, "noise")
        return self._mean + self.std * noise

    def log_prob(self, x: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Log-density, summed over event axes."""
        same_shape(self, x, self._mean)
        scaled = (x.float() - self._mean) / self.std
        return sum_event(
            -0.5 * scaled.square() - self.std.log() - 0.5 * math.log(2 * math.pi), self.event
        )

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Negative log-density of a target, summed over event axes."""
        return -self.log_prob(detached(target))

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Differential entropy in nats, summed over event axes."""
        return sum_event(self.std.log() + 0.5 * math.log(2 * math.pi * math.e), self.event)

    def kl(self, other: "Normal") -> Float32[Tensor, "*batch"]:
        """KL divergence to another normal in nats, summed over event axes.

            KL = ln(σ₂ / σ₁) + (σ₁² + (μ₁ - μ₂)²) / (2 σ₂²) - 1/2

        Source: Kingma & Welling 2013 (arXiv:1312.6114), appendix B, extended to any second
        normal.
        """
        same_kind(self, other, Normal)
        same_shape(self, other._mean, self._mean, "a distribution")
        ratio = self.std / other.std
        shift = (self._mean - other._mean) / other.std
        return sum_event(0.5 * (ratio.square() + shift.square() - 1) - ratio.log(), self.event)


class BoundedNormal(Normal):
    """The continuous actor of DreamerV3: a normal with bounded mean and standard deviation.

    `mean = tanh(raw_mean)`, `std = (high - low) sigmoid(raw_std + 2) + low`. Samples are neither
    squashed nor clipped; the environment clips them to [-1, 1]. `low` and `high` stay attributes.

    Source: the authors' released code (`bounded_normal`), low 0.1 and high 1.
    """

    def __init__(
        self,
        raw_mean: Float[Tensor, "*shape"],
        raw_std: Float[Tensor, "*shape"],
        *,
        low: float = 0.1,
        high: float = 1.0,
        event: int = 0,
    ) -> None:
        if not 0 < low <= high:
            raise ValueError(f"BoundedNormal needs 0 < low <= high, got {low} and {high}")
        mean, raw_std = floats(self, raw_mean, "raw_mean"), floats(self, raw_std, "raw_std")
        std = (high - low) * (raw_std + 2).sigmoid() + low
        super().__init__(mean.tanh(), std, event)
        self.low, self.high = low, high
