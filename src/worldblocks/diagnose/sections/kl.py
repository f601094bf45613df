"""How much information each observation adds to the latent: KL and free nats."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Section, judged
from worldblocks.diagnose.inputs import Inputs
from worldblocks.diagnose.page.charts import Chart, histogram
from worldblocks.distributions import OneHot, Output

FREE_NATS = 1.0  # of DreamerV3, if the configuration has no `free_nats`
UNLIMITED = "green from 0.05 nats; a Gaussian latent has no upper limit"
KL = "green from 0.05 nats up to a quarter of the latent's capacity (or 3 times the free nats)"
FLOOR = "green below 95%; these rows get no gradient from the KL losses"


@torch.no_grad()
def section(inputs: Inputs) -> Section:
    """KL between posterior and prior on held-out rows, and the share of rows below the free nats.

    The KL has no floor here.
    """
    rssm = inputs.agent.rssm
    posterior = rssm.posterior(inputs.post)
    kl = posterior.kl(rssm.prior(inputs.post))
    free = float(getattr(inputs.cfg, "free_nats", FREE_NATS))
    most = capacity(posterior)
    mean, share = float(kl.mean()), float((kl < free).float().mean())
    number, rule = f"{mean:.3g} nats per row", UNLIMITED
    if math.isfinite(most):
        number, rule = f"{number} (at most {most:.3g})", KL
    light = "red" if mean < 0.05 else "green" if mean <= max(most / 4, 3 * free) else "amber"
    symptom = "zero" if light == "red" else "large"
    findings = [judged("KL between posterior and prior", light, number, rule, symptom)]
    light = "green" if share < 0.95 else "amber"
    number = f"{share:.0%} of the rows below {free:g} nat{'s' * (free != 1)}"
    findings.append(judged("rows below the free nats", light, number, FLOOR, "floor"))
    question = "How much does an observation tell the latent that the model did not predict?"
    figures = _figures(kl, free, inputs.batch.is_first)
    return Section("kl", "KL and free nats", question, findings, figures)


def capacity(post: Output) -> float:
    """The largest possible information of a row's latent in nats; infinite unless categorical."""
    if not isinstance(post, OneHot):
        return math.inf
    *_, groups, classes = post.probs.shape
    return groups * math.log(classes)


def _figures(kl: Float[Tensor, "env time"], free: float, is_first: Tensor) -> list[Figure]:
    shown = kl[0, :200]
    rows = list(range(len(shown)))
    chart = Chart(rows, [0.0, *shown.tolist(), free], ("row of the first environment", "KL, nats"))
    for row in is_first[0, 1:200].nonzero().flatten().tolist():
        chart.mark(row + 1, "", "x")
    chart.line(rows, shown.tolist(), 0)
    chart.mark(free, "free nats")
    ordered = kl.flatten().sort().values
    chosen = ordered[: max(1, math.ceil(0.99 * len(ordered)))].tolist()
    labels = ("KL of a row, nats (without the largest 1%)", "fraction of rows")
    spread = histogram(chosen, 24, labels)
    spread.mark(free, "free nats", "x")
    caption = "Rows left of the line get no gradient from the KL losses."
    return [
        Figure(chart.html("KL by row"), "KL row by row. Vertical lines mark new episodes."),
        Figure(spread.html("distribution of the KL"), caption),
    ]
