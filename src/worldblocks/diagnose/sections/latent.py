"""How much of the latent is used, for categorical and for Gaussian latents."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Finding, Section, graded, judged, unknown
from worldblocks.diagnose.inputs import Inputs
from worldblocks.diagnose.page.charts import bar_chart
from worldblocks.diagnose.page.images import matrix
from worldblocks.distributions import Normal, OneHot

DEAD = "mean probability below 1% of uniform; green up to 60%, amber up to 90%"
CONSTANT = "groups with the same class in every row; green up to 50%, amber up to 90%"
INFORMATION = "Σ H(mean over rows) - H(posterior) over groups; green above 0.05"
ACTIVE = 0.01  # variance of the posterior mean over rows, from which a dimension is active
INACTIVE = "variance of the posterior mean below 0.01; green up to 60%, amber up to 90%"
BOUND = "upper bound: H(normal of equal variance) - H(posterior); green above 0.05"


@torch.no_grad()
def section(inputs: Inputs) -> Section:
    """The used classes of a categorical latent, or the active dimensions of a Gaussian one."""
    post = inputs.agent.rssm.posterior(inputs.post)
    if isinstance(post, OneHot):
        return categorical(inputs)
    if isinstance(post, Normal):
        return gaussian(post)
    reason = f"there is no check for a latent that is a {type(post).__name__}"
    return Section("categories", "Latent", "", [unknown("use of the latent", reason, "")], [])


def categorical(inputs: Inputs) -> Section:
    """Unused classes, constant groups, and the information of the latent about a row."""
    state: Any = inputs.post
    probs = state.parameters.float().softmax(-1).flatten(0, 1)  # without unimix
    usage = probs.mean(0)
    groups, classes = usage.shape
    dead = float((usage < 0.01 / classes).float().mean())
    entropy = -(usage * usage.clamp(min=1e-30).log()).sum(-1)
    own = -(probs * probs.clamp(min=1e-30).log()).sum(-1).mean(0)
    constant = float((entropy < 0.05 * math.log(classes)).float().mean())
    number = f"{dead:.0%} of {usage.numel()} ({groups} groups of {classes})"
    mean = f"mean entropy of the usage {float(entropy.mean()):.2f} of {math.log(classes):.2f} nats"
    alike = graded(constant, 0.5, 0.9)
    findings = [
        judged("dead classes", graded(dead, 0.6, 0.9), number, DEAD, "dead"),
        judged("constant groups", alike, f"{constant:.0%}; {mean}", CONSTANT, "dead"),
        _informative(float((entropy - own).clamp(min=0).sum()), INFORMATION),
    ]
    question = "How many of its classes does the latent use?"
    return Section("categories", "Latent classes", question, findings, _usage(usage, entropy))


def gaussian(post: Normal) -> Section:
    """Inactive dimensions, and the information of the latent about a row.

    Source: Burda et al. 2015 (arXiv:1509.00519), appendix C, for active units.
    """
    mean, std = (x.flatten(0, 1) for x in (post.mean, post.std))
    inactive = float((mean.var(0, correction=0) < ACTIVE).float().mean())
    nats = information(mean, std)
    light, number = graded(inactive, 0.6, 0.9), f"{inactive:.0%} of {len(nats)}"
    findings = [
        judged("inactive dimensions", light, number, INACTIVE, "inactive"),
        _informative(float(nats.sum()), BOUND),
    ]
    ordered = nats.sort(descending=True).values.tolist()
    labels = ("dimension, sorted by information", "nats per row, at most")
    chart = bar_chart(ordered, labels, math.log(2))
    caption = "Information of each latent dimension about a row."
    figure = Figure(chart.html("information of each dimension"), caption)
    question = "How many of its dimensions does the latent use?"
    return Section("units", "Latent dimensions", question, findings, [figure])


def information(
    mean: Float[Tensor, "rows stoch"], std: Float[Tensor, "rows stoch"]
) -> Float[Tensor, " stoch"]:
    """Upper bound on the information of each dimension about a row, in nats.

    It is exact if the mixture over all rows is normal:

        ln sqrt(var(mean) + mean(std²)) - mean(ln std)

    >>> mean, std = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.full((2, 2), 0.5)
    >>> [round(x, 3) for x in information(mean, std).tolist()]  # ln sqrt(1.25 / 0.25), 0
    [0.805, 0.0]
    """
    spread = mean.var(0, correction=0) + std.square().mean(0)
    return (0.5 * spread.log() - std.log().mean(0)).clamp(min=0)


def _informative(nats: float, rule: str) -> Finding:
    light = "green" if nats > 0.05 else "red"
    return judged("information of a row", light, f"{nats:.3g} nats", rule, "uninformative")


def _usage(usage: Float[Tensor, "groups classes"], entropy: Tensor) -> list[Figure]:
    classes = usage.shape[-1]
    ordered = usage.sort(-1, descending=True).values * classes
    order = entropy.argsort(descending=True)
    shade = (ordered[order] / 2).sqrt().clamp(max=1).cpu().numpy()
    picture = matrix(shade, ("classes, sorted by usage", "groups"), "usage of classes")
    caption = (
        "Mean probability of each class; one row per group, sorted by entropy. Full colour is "
        "twice the uniform probability or more. In an even field all classes are used."
    )
    labels = ("group, sorted by entropy", "entropy of the usage, nats")
    chart = bar_chart(entropy[order].tolist(), labels, math.log(classes))
    chart.mark(math.log(classes), "uniform")
    return [
        Figure(picture, caption),
        Figure(chart.html("entropy of usage by group"), "Number of classes that a group uses."),
    ]
