"""Statistical tests of samples, each with a bound on its false alarms.

Checks draw from fixed seeds, so a check that passes once passes always. The bounds limit the
probability that a correct block fails its first run, or fails after its random numbers change.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.testing.promise import Violation

ALARM = 1e-6  # probability that a correct distribution fails one comparison
STANDARD_ERRORS = 5.5  # for means of thousands of samples; exceeded with probability 4e-8


def chi_squared(counts: Float[Tensor, " bins"], expected: Float[Tensor, " bins"]) -> float:
    """The p-value of Pearson's χ² test with `bins - 1` degrees of freedom.

    Bins with an expected count below 20 are merged, so that the χ² approximation holds.

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
    """The largest gap between the empirical and the given distribution function, and its bound.

    P(gap > ε) ≤ 2 exp(-2 n ε²) for every continuous distribution and number of samples n
    (Dvoretzky, Kiefer & Wolfowitz 1956, with Massart's constant of 1990). The bound is the ε at
    which this probability is `ALARM`.
    """
    ordered = samples.double().sort().values
    n = len(ordered)
    expected = cdf(ordered)
    steps = torch.arange(n, dtype=torch.float64)
    gap = max((expected - steps / n).max().item(), ((steps + 1) / n - expected).max().item())
    return gap, math.sqrt(math.log(2 / ALARM) / (2 * n))


def expect_mean(
    samples: Float[Tensor, "draws size"],
    mean: Float[Tensor, " size"],
    what: str,
    slack: float = 0.0,
) -> None:
    """Raise if the sample mean is more than `STANDARD_ERRORS` from the expected mean."""
    error = samples.double().std(0) / math.sqrt(len(samples))
    gap = (samples.double().mean(0) - mean.double()).abs()
    allowed = STANDARD_ERRORS * error + slack + 1e-5 * mean.double().abs()
    worst = int((gap - allowed).argmax())
    if not bool((gap <= allowed).all()):
        raise Violation(
            f"{what}: the mean of {len(samples)} samples is {samples[:, worst].mean():.4g}, "
            f"expected {mean[worst]:.4g}",
            difference=gap[worst].item(),
            allowed=allowed[worst].item(),
        )


def expect_same_moments(
    ours: Float[Tensor, "draws size"], theirs: Float[Tensor, "draws size"], what: str
) -> None:
    """Raise if the means or mean squares of two sets of samples differ significantly."""
    for power, name in ((1, "mean"), (2, "mean square")):
        a, b = ours.detach().double() ** power, theirs.detach().double() ** power
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        gap, allowed = (a.mean(0) - b.mean(0)).abs(), STANDARD_ERRORS * error + 1e-5
        if not bool((gap <= allowed).all()):
            worst = int((gap - allowed).argmax())
            raise Violation(
                f"{what}: {name} {a[:, worst].mean():.4g} and {b[:, worst].mean():.4g}",
                difference=gap[worst].item(),
                allowed=allowed[worst].item(),
            )
