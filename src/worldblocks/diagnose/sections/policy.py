"""Sections 7 and 8: how returns are scaled for the actor, and how much the policy still varies."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Finding, Section, graded, unknown
from worldblocks.diagnose.inputs import Look
from worldblocks.diagnose.page.charts import Chart, histogram
from worldblocks.distributions import OneHot
from worldblocks.returns import lambda_return
from worldblocks.rssm import imagine

STARTS = 512  # rows from which is imagined
SCALE = "running p95 - p5 above the floor; amber: at the floor, which then sets the scale"
FRESH = (
    "range of the returns now over the running one; green to 2, amber to 5. Below 1 is usual: the "
    "running one is of replay, where worse episodes are"
)
SHARE = "mean |advantage · ln π| against entropy weight · H; green from 50%, amber from 5%"
ALLOWED = (
    "every return lies between the discounted sums of the smallest and of the largest reward of "
    "these rows, with a margin of half a reward or 10%; red: one does not"
)
ENTROPY = "of the largest possible; green 5% to 99%, red below 1%"
SPREAD = "std between its bounds, as a share; green from 5%, red below 1%"


@torch.no_grad()
def scale_section(look: Look) -> Section:
    """The scale of imagined returns, and what is left of the advantages."""
    returns, advantage, log_prob, entropy, rows = dream(look)
    scale, cfg = look.agent.return_scale, look.cfg
    low, high = (float(x) for x in scale.limits())
    now = [
        float(x) for x in returns.flatten().float().quantile(torch.tensor([0.05, 0.95]).to(returns))
    ]
    findings = [within_rewards("imagined returns", returns, look)]
    findings += [_scale(scale, high - low), _fresh(scale, high - low, now[1] - now[0])]
    signal = float((advantage * log_prob).abs().mean())
    noise = cfg.entropy * float(entropy.abs().mean())
    share = signal / max(signal + noise, 1e-30)
    light = "green" if share >= 0.5 else "amber" if share >= 0.05 else "red"
    number = f"{share:.1%}; mean |advantage| {float(advantage.abs().mean()):.3g}"
    symptom = "" if light == "green" else "drowned"
    findings.append(
        Finding("share of the advantages in the actor's loss", light, number, SHARE, symptom)
    )
    spread = histogram(returns.flatten()[:4000].tolist(), 24, ("imagined return", "share of rows"))
    for value, name in ((now[0], "p5"), (now[1], "p95")):
        spread.mark(value, name, "x")
    caption = f"Imagined λ-returns from {rows} rows of these episodes, now."
    return Section(
        "scale",
        "Return scale",
        "Advantages are divided by the range of returns. Is something left to learn from?",
        findings,
        [Figure(spread.html("distribution of imagined returns"), caption)],
    )


def dream(look: Look) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Returns, advantages, log-probabilities and entropies of imagination from held-out rows."""
    agent, cfg = look.agent, look.cfg
    start = look.post.flatten()
    start = start[torch.randperm(len(start.deter), device=start.deter.device)[:STARTS]]
    states, action = imagine(
        agent.rssm, start, lambda state: agent.actor(state.feature()).sample(), cfg.horizon
    )
    feature = states.feature()
    reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
    value = agent.value(feature).mean
    returns = lambda_return(reward[:, 1:], cont[:, 1:], value[:, 1:], cfg.lam)
    advantage = (returns - value[:, :-1]) / agent.return_scale(returns)
    policy = agent.actor(feature[:, :-1])
    log_prob = policy.log_prob(action[:, :-1])
    return returns, advantage, log_prob, policy.entropy(), len(start.deter)


def allowed_returns(look: Look) -> tuple[float, float] | None:
    """The smallest and the largest return that the rewards of these rows allow; None without any.

    Rewards between r_min and r_max, received forever or until the episode ends, have returns
    between min(0, r_min) / (1 - γ) and max(0, r_max) / (1 - γ). The margin for approximation is
    half of the largest reward or a tenth of the bound, whichever is more.
    """
    reward = look.batch.reward
    if not (size := float(reward.abs().max())):
        return None
    low, high = min(0.0, float(reward.min())), max(0.0, float(reward.max()))
    slack = [max(0.5 * size, 0.1 * abs(x) / (1 - look.cfg.gamma)) for x in (low, high)]
    return low / (1 - look.cfg.gamma) - slack[0], high / (1 - look.cfg.gamma) + slack[1]


def within_rewards(name: str, returns: Tensor, look: Look) -> Finding:
    """Whether rewards can add up to these returns; a head that is off by whole numbers fails."""
    bounds, name = allowed_returns(look), f"{name} within what rewards allow"
    if bounds is None:
        return unknown(name, "no reward came in these episodes", ALLOWED)
    least, most = float(returns.min()), float(returns.max())
    right = bounds[0] <= least <= most <= bounds[1]
    number = f"{least:.4g} to {most:.4g}; {bounds[0]:.4g} to {bounds[1]:.4g} allowed"
    return Finding(
        name, "green" if right else "red", number, ALLOWED, "" if right else "impossible"
    )


def _scale(scale: Any, width: float) -> Finding:
    name = "range of returns"
    if _young(scale):
        return unknown(name, "too few updates: the running percentiles have just begun", SCALE)
    light = "green" if width > scale.floor else "amber"
    number = f"{width:.3g}; floor {scale.floor:g}" + ", reached" * (light == "amber")
    return Finding(name, light, number, SCALE, "" if light == "green" else "floor")


def _fresh(scale: Any, width: float, now: float) -> Finding:
    name = "range now over the running one"
    if _young(scale):
        return unknown(name, "too few updates: the running percentiles have just begun", FRESH)
    factor = now / max(width, scale.floor)
    light = graded(factor, 2, 5)
    number = f"×{factor:.2g} (returns now span {now:.3g})"
    return Finding(name, light, number, FRESH, "" if light == "green" else "stale")


def _young(scale: Any) -> bool:
    """Whether the running percentiles still hold more of their start than of the data."""
    return float(scale.weight) < 0.5


@torch.no_grad()
def entropy_section(look: Look) -> Section:
    """Entropy of each part of the policy on held-out rows, against what it could be."""
    findings, figures = [], []
    actor = look.agent.actor
    for key, part in actor(look.feature.flatten(0, 1)).parts.items():
        if isinstance(part, OneHot):
            findings.append(_discrete(key, part))
            figures.append(_chosen(key, part.probs))
        else:
            findings.append(_continuous(key, part, actor.low, actor.high))
            figures.append(_spreads(key, part, actor.low, actor.high))
    question = "Does the agent still try things, and does it prefer anything?"
    return Section("entropy", "Policy entropy", question, findings, figures)


def _discrete(key: str, part: OneHot) -> Finding:
    classes = part.probs.shape[-1]
    entries = part.probs[0].numel() // classes
    entropy, most = float(part.entropy().mean()), entries * math.log(classes) if classes > 1 else 0
    if not most:
        return unknown(f"entropy of {key!r}", "there is only one action", ENTROPY)
    share = entropy / most
    number = f"{share:.1%}: {entropy:.3g} of {most:.3g} nats"
    light = "red" if share < 0.01 else "amber" if not 0.05 <= share <= 0.99 else "green"
    symptom = "" if light == "green" else "collapsed" if share < 0.05 else "uniform"
    return Finding(f"entropy of {key!r}", light, number, ENTROPY, symptom)


def _continuous(key: str, part: Any, low: float, high: float) -> Finding:
    share = float(((part.std - low) / max(high - low, 1e-9)).mean())
    bound = float((part.mean.abs() > 0.99).float().mean())
    number = (
        f"std {float(part.std.mean()):.3g} between {low:g} and {high:g} ({share:.0%}); entropy "
        f"{float(part.entropy().mean()):.3g} nats; {bound:.0%} of the means at ±1"
    )
    light = "red" if share < 0.01 else "amber" if share < 0.05 else "green"
    symptom = "" if light == "green" else "collapsed"
    return Finding(f"spread of {key!r}", light, number, SPREAD, symptom)


def _chosen(key: str, probs: Float[Tensor, "..."]) -> Figure:
    """Mean probability of each action; of a part with several entries, of the first."""
    first = probs.reshape(len(probs), -1, probs.shape[-1])[:, 0]
    mean = first.mean(0).tolist()
    edges = [n - 0.5 for n in range(len(mean) + 1)]
    chart = Chart(edges, [0.0, *mean], (f"choice of {key!r}", "mean probability"), whole=True)
    chart.bars(edges, mean, 0)
    chart.mark(1 / len(mean), "all alike")
    return Figure(chart.html(f"mean probability of each action of {key}"), "Mean over all rows.")


def _spreads(key: str, part: Any, low: float, high: float) -> Figure:
    std = part.std.reshape(len(part.std), -1).mean(0).tolist()
    edges = [n - 0.5 for n in range(len(std) + 1)]
    chart = Chart(
        edges, [0.0, high, *std], (f"number of {key!r}", "standard deviation"), whole=True
    )
    chart.bars(edges, std, 0)
    chart.mark(low, "smallest possible")
    chart.mark(high, "largest possible")
    return Figure(chart.html(f"standard deviation of {key}"), "Mean over all rows.")
