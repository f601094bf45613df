"""Section 3 of a Gaussian latent: which of its numbers are used, and how much they say of a row."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.figures import Chart
from worldblocks.diagnose.finding import Figure, Finding, Section, graded
from worldblocks.distributions import Normal

ACTIVE = 0.01  # variance of a posterior mean over rows, from which on a number is in use
DEAD = "posterior means that vary by less than 0.01 (variance); green to 60%, amber to 90%"
INFORMATION = "of an observation, at most: H(a normal as wide) - H(posterior); green above 0.05"


@torch.no_grad()
def section(post: Normal) -> Section:
    """Which numbers vary with what is seen, and how much they say.

    Source: Burda et al. 2015 (arXiv:1509.00519), appendix C, for units in use.
    """
    mean, std = (x.flatten(0, 1) for x in (post.mean, post.std))
    dead = float((mean.var(0, correction=0) < ACTIVE).float().mean())
    told = information(mean, std)
    total = float(told.sum())
    findings = [
        Finding(
            "numbers not in use",
            light := graded(dead, 0.6, 0.9),
            f"{dead:.0%} of {len(told)}",
            DEAD,
            "dead" if light != "green" else "",
        ),
        Finding(
            "what the latent says of a row",
            light := "green" if total > 0.05 else "red",
            f"{total:.3g} nats",
            INFORMATION,
            "mute" if light != "green" else "",
        ),
    ]
    question = "Does the agent use the numbers it was given?"
    return Section("units", "Numbers of the latent", question, findings, [_figure(told)])


def information(
    mean: Float[Tensor, "rows stoch"], std: Float[Tensor, "rows stoch"]
) -> Float[Tensor, " stoch"]:
    """Nats that each number says of a row, were all rows together normal: the most it can be.

        ln sqrt(var(mean) + mean(std²)) - mean(ln std)

    >>> mean, std = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.full((2, 2), 0.5)
    >>> [round(x, 3) for x in information(mean, std).tolist()]  # ln sqrt(1.25 / 0.25), 0
    [0.805, 0.0]
    """
    spread = mean.var(0, correction=0) + std.square().mean(0)
    return (0.5 * spread.log() - std.log().mean(0)).clamp(min=0)


def _figure(told: Tensor) -> Figure:
    ordered = told.sort(descending=True).values.tolist()
    names = [n - 0.5 for n in range(len(ordered) + 1)]
    labels = ("number, the most telling first", "nats of a row, at most")
    chart = Chart(names, [0.0, *ordered, math.log(2)], labels, whole=True)
    chart.bars(names, ordered, 0)
    caption = "How much each number of the latent says of a row."
    return Figure(chart.html("what each number says"), caption)
