"""Section 2: how much each observation tells the latent."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Finding, Section
from worldblocks.diagnose.inputs import Look
from worldblocks.diagnose.page.charts import Chart, histogram
from worldblocks.distributions import OneHot, Output

FREE_NATS = 1.0  # of DreamerV3, where the configuration does not say
UNLIMITED = "green from 0.05 nats; there is no limit to what normals can hold"
KL = "green from 0.05 nats to a quarter of what the latent can hold (or 3 times the free nats)"
FLOOR = "green below 95% of the rows; there the KL losses have no gradient"


@torch.no_grad()
def section(look: Look) -> Section:
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
