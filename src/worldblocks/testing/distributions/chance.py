"""Samples against log-probabilities, for any distribution."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worldblocks.testing.promise import Violation
from worldblocks.testing.promise.compare import seeded
from worldblocks.testing.promise.statistics import ALARM, chi_squared, kolmogorov_smirnov

DRAWS = 4000
FEW = 32  # distinct values; a number with more is a real number
GRID = 6001


def draw(make: Callable[[Tensor], Any], raw: Tensor, count: int = DRAWS) -> Tensor:
    """Samples `draws *event` for the parameters `1 size` of one element."""
    with seeded(), torch.no_grad():
        return make(raw.expand(count, -1)).sample().detach()


def numbers(drawn: Tensor) -> Tensor:
    """Flatten each event: `draws numbers`."""
    return drawn.reshape(len(drawn), -1)


def is_discrete(drawn: Tensor) -> Tensor:
    """A mask of the discrete numbers of an event."""
    return torch.tensor([len(column.unique()) <= FEW for column in numbers(drawn).unbind(1)])


@torch.no_grad()
def log_prob(make: Callable[[Tensor], Any], raw: Tensor, values: Tensor, like: Tensor) -> Tensor:
    """Log-probabilities of values `count numbers`, in float64."""
    values = values.reshape(len(values), *like.shape[1:])
    return make(raw.expand(len(values), -1)).log_prob(values).double().nan_to_num(nan=-torch.inf)


def discrete_part(make: Callable[[Tensor], Any], raw: Tensor, drawn: Tensor) -> None:
    """χ² over all combinations of the discrete numbers."""
    flat, few = numbers(drawn), is_discrete(drawn)
    if not few.any():
        return
    values, counts = flat[:, few].unique(dim=0, return_counts=True)
    points = flat[:1].repeat(len(values), 1)
    points[:, few] = values
    logits = log_prob(make, raw, points, drawn)
    if few.all():
        probability = logits.exp()
        rest = 1 - probability.sum()
        if rest < -1e-3:
            raise Violation(
                f"the probabilities of the values that were drawn sum to {1 - rest:.4g}"
            )
        probability = torch.cat([probability, rest.clamp(min=0).unsqueeze(0)])
        counts = torch.cat([counts, counts.new_zeros(1)])
    else:  # the density of the real numbers is a common factor
        probability = logits.softmax(0)
    alarm = chi_squared(counts.double(), probability * len(drawn))
    if not alarm > ALARM:
        share = counts.double() / len(drawn)
        worst = int((share - probability).abs().argmax())
        at = "another value" if worst == len(values) else f"the value {points[worst].tolist()}"
        raise Violation(
            f"{at} was drawn {counts[worst]} times of {len(drawn)}, expected from its "
            f"log-probability {probability[worst] * len(drawn):.1f} (χ² has a p-value of "
            f"{alarm:.1g}, allowed: {ALARM:.0g})",
            difference=(share - probability).abs().max().item(),
        )


def continuous_part(make: Callable[[Tensor], Any], raw: Tensor, drawn: Tensor) -> None:
    """Kolmogorov-Smirnov of each real number; its density is integrated on a grid."""
    flat, few = numbers(drawn), is_discrete(drawn)
    for column in (~few).nonzero().flatten().tolist():
        samples = flat[:, column].double()
        low, high = samples.min(), samples.max()
        room = high - low
        grid = torch.linspace(float(low - room), float(high + room), GRID, dtype=torch.float64)
        points = flat[:1].repeat(GRID, 1)
        points[:, column] = grid.to(points.dtype)
        logits = log_prob(make, raw, points, drawn)
        density = (logits - logits.max()).exp()
        mass = torch.cat([density.new_zeros(1), (density[1:] + density[:-1]).cumsum(0)])
        mass = mass / mass[-1]

        def cdf(x: Tensor, grid: Tensor = grid, mass: Tensor = mass) -> Tensor:
            above = torch.searchsorted(grid, x).clamp(1, GRID - 1)
            share = (x - grid[above - 1]) / (grid[above] - grid[above - 1])
            return torch.lerp(mass[above - 1], mass[above], share)

        gap, allowed = kolmogorov_smirnov(samples, cdf)
        if not gap <= allowed:
            what = f"the samples of number {column} of an event do not match its log-probability "
            what += "(Kolmogorov-Smirnov)"
            raise Violation(what, difference=gap, allowed=allowed)
