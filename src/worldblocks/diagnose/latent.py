"""Sections 2 and 3: what the latent adds to what was expected, and what of it is used."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose import units
from worldblocks.diagnose.figures import Chart, histogram
from worldblocks.diagnose.finding import Figure, Finding, Section, graded, unknown
from worldblocks.diagnose.look import Look
from worldblocks.diagnose.pictures import matrix
from worldblocks.distributions import Normal, OneHot, Output

FREE_NATS = 1.0  # of DreamerV3, where the configuration does not say
UNLIMITED = "green from 0.05 nats; there is no limit to what normals can hold"
KL = "green from 0.05 nats to a quarter of what the latent can hold (or 3 times the free nats)"
FLOOR = "green below 95% of the rows; there the KL losses have no gradient"
DEAD = "used less than 1% of its fair share; green to 60%, amber to 90%"
USAGE = "a group that always says the same; green to 50%, amber to 90%"
INFORMATION = "of an observation, mean of the groups' H(usage) - H(posterior); green above 0.05"


@torch.no_grad()
def kl_section(look: Look) -> Section:
    """KL of posterior and prior on held-out rows, and the share at the free nats."""
    kl = divergence(look)
    free = float(getattr(look.cfg, "free_nats", FREE_NATS))
    most = capacity(look.agent.rssm.posterior(look.post))
    mean, share = float(kl.mean()), float((kl < free).float().mean())
    symptom = "silent" if mean < 0.05 else "" if mean <= max(most / 4, 3 * free) else "surprised"
    light = "red" if symptom == "silent" else "amber" if symptom else "green"
    limited = math.isfinite(most)
    number = f"{mean:.3g} nats a row" + (f" ({most:.3g} at most)" if limited else "")
    rule = KL if limited else UNLIMITED
    findings = [Finding("KL of posterior and prior", light, number, rule, symptom)]
    light = "green" if share < 0.95 else "amber"
    number = f"{share:.0%} of the rows below {free:g} nat{'s' * (free != 1)}"
    symptom = "floor" if light == "amber" else ""
    findings.append(Finding("free-nat occupancy", light, number, FLOOR, symptom))
    return Section(
        "kl",
        "KL and free nats",
        "How much does an observation tell the latent that the model did not expect?",
        findings,
        _kl_figures(kl, free, look.batch.is_first),
    )


def divergence(look: Look) -> Float[Tensor, "env time"]:
    """KL(posterior || prior) of each row in nats, without the floor."""
    rssm = look.agent.rssm
    return rssm.posterior(look.post).kl(rssm.prior(look.post.deter))


def capacity(post: Output) -> float:
    """The most a latent can say of a row, in nats; infinite where it is no finite alphabet."""
    if not isinstance(post, OneHot):
        return math.inf
    *_, groups, classes = post.probs.shape
    return groups * math.log(classes)


@torch.no_grad()
def use_section(look: Look) -> Section:
    """What of the latent is used: its classes, or its numbers."""
    post = look.agent.rssm.posterior(look.post)
    if isinstance(post, OneHot):
        return category_section(look)
    if isinstance(post, Normal):
        return units.section(post)
    reason = f"nothing is known of the use of a latent that is a {type(post).__name__}"
    return Section("categories", "Latent", "", [unknown("use of the latent", reason, "")], [])


def _kl_figures(kl: Tensor, free: float, is_first: Tensor) -> list[Figure]:
    shown = kl[0, :200]
    rows = list(range(len(shown)))
    chart = Chart(rows, [0.0, *shown.tolist(), free], ("row of the first environment", "KL, nats"))
    for row in is_first[0, 1:200].nonzero().flatten().tolist():
        chart.mark(row + 1, "", "x")
    chart.line(rows, shown.tolist(), 0)
    chart.mark(free, "free nats")
    ordered = kl.flatten().sort().values
    chosen = ordered[: max(1, math.ceil(0.99 * len(ordered)))].tolist()
    spread = histogram(chosen, 24, ("KL of a row, nats (without the largest 1%)", "share of rows"))
    spread.mark(free, "free nats", "x")
    return [
        Figure(chart.html("KL by row"), "KL row by row; upright lines are new episodes."),
        Figure(spread.html("distribution of the KL"), "Rows left of the line train no KL loss."),
    ]


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
            DEAD,
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
            INFORMATION,
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
