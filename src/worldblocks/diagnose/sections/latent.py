"""Section 3: how much of the latent is in use, for categorical and for Gaussian latents."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Finding, Section, graded, unknown
from worldblocks.diagnose.inputs import Look
from worldblocks.diagnose.page.charts import Chart
from worldblocks.diagnose.page.images import matrix
from worldblocks.distributions import Normal, OneHot

CLASSES_DEAD = "used less than 1% of its fair share; green to 60%, amber to 90%"
USAGE = "a group that always says the same; green to 50%, amber to 90%"
CLASSES_INFORMATION = (
    "of an observation, mean of the groups' H(usage) - H(posterior); green above 0.05"
)
ACTIVE = 0.01  # variance of a posterior mean over rows, from which on a number is in use
DEAD = "posterior means that vary by less than 0.01 (variance); green to 60%, amber to 90%"
INFORMATION = "of an observation, at most: H(a normal as wide) - H(posterior); green above 0.05"


@torch.no_grad()
def section(look: Look) -> Section:
    """What of the latent is used: its classes, or its numbers."""
    post = look.agent.rssm.posterior(look.post)
    if isinstance(post, OneHot):
        return category_section(look)
    if isinstance(post, Normal):
        return number_section(post)
    reason = f"nothing is known of the use of a latent that is a {type(post).__name__}"
    return Section("categories", "Latent", "", [unknown("use of the latent", reason, "")], [])


@torch.no_grad()
def category_section(look: Look) -> Section:
    """Which classes of the latent are ever used, and how much a row's latent says."""
    state: Any = look.post
    probs = state.logits.float().softmax(-1).flatten(0, 1)  # without the uniform share
    usage = probs.mean(0)
    classes = usage.shape[-1]
    dead = float((usage < 0.01 / classes).float().mean())
    entropy = -(usage * usage.clamp(min=1e-30).log()).sum(-1)
    own = -(probs * probs.clamp(min=1e-30).log()).sum(-1).mean(0)
    information = float((entropy - own).clamp(min=0).sum())
    constant = float((entropy < 0.05 * math.log(classes)).float().mean())
    findings = [
        Finding(
            "dead classes",
            light := graded(dead, 0.6, 0.9),
            f"{dead:.0%} of {usage.numel()} ({usage.shape[0]} groups of {classes})",
            CLASSES_DEAD,
            "dead" if light != "green" else "",
        ),
        Finding(
            "constant groups",
            light := graded(constant, 0.5, 0.9),
            f"{constant:.0%}; entropy of usage {float(entropy.mean()):.2f} of "
            f"{math.log(classes):.2f} nats",
            USAGE,
            "dead" if light != "green" else "",
        ),
        Finding(
            "what the latent says of a row",
            light := "green" if information > 0.05 else "red",
            f"{information:.3g} nats",
            CLASSES_INFORMATION,
            "mute" if light != "green" else "",
        ),
    ]
    return Section(
        "categories",
        "Classes of the latent",
        "Does the agent use the alphabet it was given?",
        findings,
        _usage_figures(usage, entropy),
    )


def _usage_figures(usage: Tensor, entropy: Tensor) -> list[Figure]:
    groups, classes = usage.shape
    ordered = usage.sort(-1, descending=True).values * classes
    order = entropy.argsort(descending=True)
    shade = (ordered[order] / 2).sqrt().clamp(max=1).cpu().numpy()
    picture = matrix(shade, ("classes, the most used first", "groups"), "usage of classes")
    caption = (
        "Mean probability of every class, a row for each group, the most varied first. Full colour "
        "is twice a fair share or more; an even field is an alphabet fully used."
    )
    names = [n - 0.5 for n in range(groups + 1)]
    bits = entropy[order].tolist()
    labels = ("group, the most varied first", "entropy of usage, nats")
    chart = Chart(names, [0.0, math.log(classes), *bits], labels, whole=True)
    chart.bars(names, bits, 0)
    chart.mark(math.log(classes), "all classes alike")
    return [
        Figure(picture, caption),
        Figure(chart.html("entropy of usage by group"), "How many classes a group really uses."),
    ]


@torch.no_grad()
def number_section(post: Normal) -> Section:
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
