"""Tests of samples, each with a bound on how often it is wrong.

A check draws from fixed seeds: what passes once passes always. The bounds say how likely a correct
block is to fail at the first look, or when its random numbers change.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.testing.promise import Found

ALARM = 1e-6  # probability that a correct distribution fails one comparison
DEVIATIONS = 5.5  # of a normal: 4e-8 lie beyond; for means of thousands of samples


def chi_squared(counts: Float[Tensor, " bins"], expected: Float[Tensor, " bins"]) -> float:
    """The probability of counts that lie at least as far from those expected.

    Bins in which fewer than 20 are expected are joined, so that the distribution is close to the
    χ² of as many degrees of freedom as there are bins but one.

    >>> even = torch.full((4,), 250.0)
    >>> round(chi_squared(torch.tensor([240.0, 260.0, 250.0, 250.0]), even), 2)
    0.85
    """
    small = expected < 20
    if small.any():
        counts, expected = (
            torch.cat([x[~small], x[small].sum().unsqueeze(0)]) for x in (counts, expected)
        )
        if expected[-1] < 20:
            if counts[-1] > 60:
                return 0.0
            counts, expected = counts[:-1], expected[:-1]
    if len(counts) < 2:
        return 1.0
    statistic = ((counts - expected).square() / expected).sum().double()
    return torch.special.gammaincc(
        torch.tensor((len(counts) - 1) / 2).double(), statistic / 2
    ).item()


def kolmogorov_smirnov(
    samples: Float[Tensor, " draws"], cdf: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """The largest gap of two distribution functions, and what it may be for so many samples.

    The bound holds for every continuous distribution and number of samples:
    P(gap > ε) ≤ 2 exp(-2 n ε²) (Dvoretzky, Kiefer & Wolfowitz 1956, with Massart's constant of
    1990), solved for a probability of `ALARM`.
    """
    ordered = samples.double().sort().values
    n = len(ordered)
    told = cdf(ordered)
    steps = torch.arange(n, dtype=torch.float64)
    gap = max((told - steps / n).max().item(), ((steps + 1) / n - told).max().item())
    return gap, math.sqrt(math.log(2 / ALARM) / (2 * n))


def expect_mean(
    samples: Float[Tensor, "draws size"],
    mean: Float[Tensor, " size"],
    what: str,
    slack: float = 0.0,
) -> None:
    """Raise if an average lies more than `DEVIATIONS` standard errors from what it should be."""
    error = samples.double().std(0) / math.sqrt(len(samples))
    gap = (samples.double().mean(0) - mean.double()).abs()
    allowed = DEVIATIONS * error + slack + 1e-5 * mean.double().abs()
    worst = int((gap - allowed).argmax())
    if not bool((gap <= allowed).all()):
        raise Found(
            f"{what}: the average of {len(samples)} samples is {samples[:, worst].mean():.4g}, it "
            f"should be {mean[worst]:.4g}",
            deviation=gap[worst].item(),
            allowed=allowed[worst].item(),
        )


def expect_same_moments(
    ours: Float[Tensor, "draws size"], theirs: Float[Tensor, "draws size"], what: str
) -> None:
    """Raise if two sets of samples have other means or mean squares than chance explains."""
    for power, name in ((1, "mean"), (2, "mean square")):
        a, b = ours.detach().double() ** power, theirs.detach().double() ** power
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        gap, allowed = (a.mean(0) - b.mean(0)).abs(), DEVIATIONS * error + 1e-5
        if not bool((gap <= allowed).all()):
            worst = int((gap - allowed).argmax())
            raise Found(
                f"{what}: {name} {a[:, worst].mean():.4g} and {b[:, worst].mean():.4g}",
                deviation=gap[worst].item(),
                allowed=allowed[worst].item(),
            )
