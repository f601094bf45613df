"""The actor: the scale of its returns, and the entropy of its policy."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.finding import Figure, Finding, Section, graded, judged, unknown
from worldblocks.diagnose.inputs import Inputs
from worldblocks.diagnose.page.charts import bar_chart, histogram
from worldblocks.returns import lambda_return
from worldblocks.rssm import imagine

STARTS = 512  # rows from which futures are imagined
SCALE = "running p95 - p5 above the floor; amber: at the floor, which then sets the scale"
CURRENT = (
    "range of the returns now over the running range; green up to 2, amber up to 5. Below 1 is "
    "usual: the running range is from replay, which has worse episodes"
)
SHARE = "mean |advantage · ln π| against entropy weight · H; green from 50%, amber from 5%"
BOUNDS = (
    "every return lies between the discounted sums of the smallest and of the largest reward of "
    "these rows, with a margin of half a reward or 10%; red if one does not"
)
ENTROPY = "fraction of the maximum; green from 5% to 99%, red below 1%"
SPREAD = "std between its bounds, as a fraction; green from 5%, red below 1%"


@torch.no_grad()
def scale_section(inputs: Inputs) -> Section:
    """The scale of imagined returns, and the share of the advantages in the actor loss."""
    returns, advantage, log_prob, entropy = imagined_returns(inputs)
    scale, flat = inputs.agent.return_scale, returns.flatten()
    low, high = (float(x) for x in scale.limits())
    now = [float(x) for x in flat.float().quantile(torch.tensor([0.05, 0.95]).to(returns))]
    signal = float((advantage * log_prob).abs().mean())
    noise = inputs.cfg.entropy * float(entropy.abs().mean())
    share = signal / max(signal + noise, 1e-30)
    light = "green" if share >= 0.5 else "amber" if share >= 0.05 else "red"
    number = f"{share:.1%}; mean |advantage| {float(advantage.abs().mean()):.3g}"
    findings = [
        within_rewards("imagined returns", returns, inputs),
        *_range(scale, high - low, now[1] - now[0]),
        judged("share of the advantages in the actor loss", light, number, SHARE, "entropy"),
    ]
    spread = histogram(flat[:4000].tolist(), 24, ("imagined return", "fraction of rows"))
    for value, name in zip(now, ("p5", "p95"), strict=True):
        spread.mark(value, name, "x")
    caption = f"λ-returns imagined from {len(returns)} of these rows by the current agent."
    return Section(
        "scale",
        "Return scale",
        "Advantages are divided by the range of the returns. Is enough left to learn from?",
        findings,
        [Figure(spread.html("distribution of imagined returns"), caption)],
    )


def imagined_returns(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns, advantages, log-probabilities and entropies, imagined from held-out rows."""
    agent, cfg = inputs.agent, inputs.cfg
    start = inputs.post.flatten()
    rewards = inputs.batch.reward
    start = start[torch.randperm(rewards.numel(), device=rewards.device)[:STARTS]]
    states, action = imagine(
        agent.rssm, start, lambda state: agent.actor(state.feature()).sample(), cfg.horizon
    )
    feature = states.feature()
    reward, cont = agent.reward(feature).mean, agent.cont(feature).mean
    value = agent.value(feature).mean
    returns = lambda_return(reward[:, 1:], cont[:, 1:], value[:, 1:], cfg.lam)
    advantage = (returns - value[:, :-1]) / agent.return_scale(returns)
    policy = agent.actor(feature[:, :-1])
    return returns, advantage, policy.log_prob(action[:, :-1]), policy.entropy()


def within_rewards(name: str, returns: Tensor, inputs: Inputs) -> Finding:
    """Whether returns lie within the bounds that the rewards of the held-out rows set.

    Rewards between r_min and r_max, received forever or until the episode ends, have returns
    between min(0, r_min) / (1 - γ) and max(0, r_max) / (1 - γ). The margin for approximation errors
    is half of the largest |reward| or a tenth of the bound, whichever is larger.
    """
    reward, gamma, name = inputs.batch.reward, inputs.cfg.gamma, f"{name} within the reward bounds"
    if not (size := float(reward.abs().max())):
        return unknown(name, "these episodes have no reward", BOUNDS)
    low, high = min(0.0, float(reward.min())), max(0.0, float(reward.max()))
    margins = [max(0.5 * size, 0.1 * abs(x) / (1 - gamma)) for x in (low, high)]
    low, high = low / (1 - gamma) - margins[0], high / (1 - gamma) + margins[1]
    least, most = float(returns.min()), float(returns.max())
    light = "green" if low <= least <= most <= high else "red"
    number = f"{least:.4g} to {most:.4g}; bounds {low:.4g} to {high:.4g}"
    return judged(name, light, number, BOUNDS, "bounds")


def _range(scale: Any, width: float, now: float) -> list[Finding]:
    """The running range of the returns against its floor, and the current range against it."""
    names = "range of returns", "current range over running range"
    if float(scale.weight) < 0.5:  # early in training
        reason = "too few updates for the running percentiles"
        return [unknown(names[0], reason, SCALE), unknown(names[1], reason, CURRENT)]
    light = "green" if width > scale.floor else "amber"
    number = f"{width:.3g}; floor {scale.floor:g}" + ", reached" * (light == "amber")
    factor = now / max(width, scale.floor)
    current = f"×{factor:.2g} (current range {now:.3g})"
    return [
        judged(names[0], light, number, SCALE, "floor"),
        judged(names[1], graded(factor, 2, 5), current, CURRENT, "stale"),
    ]


@torch.no_grad()
def entropy_section(inputs: Inputs) -> Section:
    """Entropy of each part of the policy on held-out rows, relative to its maximum.

    A part is judged by what it has: `probs` of classes, or a `std` between `low` and `high`.
    """
    findings, figures = [], []
    policy = inputs.agent.actor(inputs.feature.flatten(0, 1))
    for key, part in getattr(policy, "parts", {"action": policy}).items():
        if hasattr(part, "probs"):
            findings.append(_discrete(key, part))
            figures.append(_probabilities(key, part.probs))
        elif all(hasattr(part, name) for name in ("std", "low", "high")):
            findings.append(_continuous(key, part, part.low, part.high))
            figures.append(_deviations(key, part, part.low, part.high))
        else:
            number = f"{float(part.entropy().mean()):.3g} nats; no bounds to compare it with"
            findings.append(unknown(f"entropy of {key!r}", number, ENTROPY))
    question = "Does the agent still explore, and does it have preferences?"
    return Section("entropy", "Policy entropy", question, findings, figures)


def _discrete(key: str, part: Any) -> Finding:
    name, classes = f"entropy of {key!r}", part.probs.shape[-1]
    if classes == 1:
        return unknown(name, "there is only one action", ENTROPY)
    entropy = float(part.entropy().mean())
    most = part.probs[0].numel() // classes * math.log(classes)
    share = entropy / most
    number = f"{share:.1%}: {entropy:.3g} of {most:.3g} nats"
    light = "red" if share < 0.01 else "amber" if not 0.05 <= share <= 0.99 else "green"
    return judged(name, light, number, ENTROPY, "collapsed" if share < 0.05 else "uniform")


def _continuous(key: str, part: Any, low: float, high: float) -> Finding:
    share = float(((part.std - low) / max(high - low, 1e-9)).mean())
    bound = float((part.mean.abs() > 0.99).float().mean())
    number = (
        f"{float(part.std.mean()):.3g} between {low:g} and {high:g} ({share:.0%}); entropy "
        f"{float(part.entropy().mean()):.3g} nats; {bound:.0%} of the means at ±1"
    )
    light = "red" if share < 0.01 else "amber" if share < 0.05 else "green"
    return judged(f"standard deviation of {key!r}", light, number, SPREAD, "collapsed")


def _probabilities(key: str, probs: Float[Tensor, "..."]) -> Figure:
    """Mean probability of each class; of the first entry if the action has several."""
    first = probs.reshape(len(probs), -1, probs.shape[-1])[:, 0]
    chart = bar_chart(first.mean(0).tolist(), (f"class of {key!r}", "mean probability"))
    chart.mark(1 / probs.shape[-1], "uniform")
    return Figure(chart.html(f"mean probability of each class of {key}"), "Mean over all rows.")


def _deviations(key: str, part: Any, low: float, high: float) -> Figure:
    """Mean standard deviation of each entry of a continuous action."""
    std = part.std.reshape(len(part.std), -1).mean(0).tolist()
    chart = bar_chart(std, (f"entry of {key!r}", "standard deviation"), high)
    chart.mark(low, "minimum")
    chart.mark(high, "maximum")
    return Figure(chart.html(f"standard deviation of {key}"), "Mean over all rows.")
