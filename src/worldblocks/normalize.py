"""Running statistics of a signal: a percentile range, mean and standard deviation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.typing import typed


class PercentileScale(nn.Module):
    """The running range between two percentiles as a scale: `max(floor, high - low)`.

    In training mode a call first updates the running percentiles with those of the batch,
    `p <- (1 - rate) p + rate * percentile(x)`, and then returns the scale. In evaluation mode it
    only returns the scale. The averages start at 0 without bias correction, so the scale stays at
    the floor at first: a range of 2 exceeds 1 at the 69th update. `debias=True` corrects the bias.

    Source: DreamerV3, section "Actor learning" (rate 0.01, percentiles 5 and 95, floor 1).

    >>> scale = PercentileScale(rate=1.0, low=0, high=100)
    >>> scale(torch.tensor([-1.0, 4.0])).item()
    5.0
    """

    range: Tensor
    weight: Tensor
    percents: Tensor

    def __init__(
        self,
        rate: float = 0.01,
        low: float = 5,
        high: float = 95,
        floor: float = 1.0,
        *,
        debias: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles need 0 <= low < high <= 100, got {low} and {high}")
        _check_rate(rate)
        self.rate, self.floor, self.debias = rate, floor, debias
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("percents", torch.tensor([low, high]) / 100, persistent=False)

    @typed
    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Update (in training mode) with every element of `x`, then return the scale."""
        if self.training:
            self.update(x)
        low, high = self.limits()
        return (high - low).clamp(min=self.floor)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "*shape"]) -> None:
        """Update the running percentiles with those of `x`, interpolated linearly."""
        if not x.numel():
            raise ValueError(f"percentiles need at least one number, got shape {tuple(x.shape)}")
        ordered = x.detach().float().flatten().sort().values
        at = self.percents.float() * (ordered.numel() - 1)
        below = at.long()
        above = (below + 1).clamp(max=ordered.numel() - 1)
        found = ordered[below].lerp(ordered[above], (at - below).float())
        self.range.lerp_(found.to(self.range.dtype), self.rate)
        self.weight.lerp_(torch.ones_like(self.weight), self.rate)

    def limits(self) -> Float[Tensor, "2"]:
        """The running percentiles, low and high."""
        return self.range / self.weight.clamp(min=self.rate) if self.debias else self.range


class RunningMoments(nn.Module):
    """Running mean and standard deviation, with bias correction.

    In training mode a call first updates both moments, `m <- (1 - rate) m + rate * mean(x)` and the
    same for `x²`. Returns `(mean, std)` with `std` at least `floor`.

    Source: the reference's `meanstd` normaliser (rate 0.01, floor 1e-8).

    >>> moments = RunningMoments()
    >>> [round(value.item(), 3) for value in moments(torch.tensor([1.0, 3.0]))]
    [2.0, 1.0]
    """

    moments: Tensor
    weight: Tensor

    def __init__(self, rate: float = 0.01, floor: float = 1e-8) -> None:
        super().__init__()
        _check_rate(rate)
        self.rate, self.floor = rate, floor
        self.register_buffer("moments", torch.zeros(2))
        self.register_buffer("weight", torch.zeros(()))

    @typed
    def forward(self, x: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Update (in training mode) with every element of `x`, then return mean and std."""
        if self.training:
            with torch.no_grad():
                x = x.detach().float()
                self.moments.lerp_(torch.stack([x.mean(), x.square().mean()]), self.rate)
                self.weight.lerp_(torch.ones_like(self.weight), self.rate)
        mean, square = self.moments / self.weight.clamp(min=self.rate)
        return mean, (square - mean.square()).clamp(min=0).sqrt().clamp(min=self.floor)


def _check_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise ValueError(f"a running average needs a rate above 0 and at most 1, got {rate}")
