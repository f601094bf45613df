"""Sections 4 to 6: whether rewards, values and ends are predicted as they come."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.diagnose.comparisons import realised_return
from worldblocks.diagnose.finding import Figure, Finding, Section, graded, unknown
from worldblocks.diagnose.inputs import Look
from worldblocks.diagnose.page.charts import Chart
from worldblocks.diagnose.rollouts import CONTEXT, STEPS

REWARD = (
    "squared error where the reward is not 0, of the best constant's; green to ×0.5, amber to ×0.95"
)
FALSE = "mean |prediction| where the reward is 0, of a reward's size; green to 10%, amber to 50%"
CORRELATION = "green from 0.5, amber above 0"
BIAS = "green to half of a typical return, amber to twice of it"
TERMINAL = "mean prediction on terminal rows; green to 0.3, amber to 0.7"
ALIVE = "1 / (1 - median prediction) on other rows; green within a factor 2, amber 4"


@torch.no_grad()
def reward_section(look: Look) -> Section:
    """Predicted rewards against those that came."""
    reward, guess = look.batch.reward, look.agent.reward(look.feature).mean
    findings = [_error("reward error of rows it sees", reward, guess)]
    if look.cuts is not None and look.predicted is not None:
        ahead, real = look.predicted.reward[:, CONTEXT:], look.cuts.reward[:, CONTEXT:]
        findings.append(_error(f"reward error 1 to {STEPS} steps ahead", real, ahead))
    zero, size = reward == 0, reward.abs()[reward != 0].mean()
    if zero.any() and not zero.all():
        share = float(guess[zero].abs().mean() / size)
        light = graded(share, 0.1, 0.5)
        symptom = "" if light == "green" else "false"
        findings.append(Finding("rewards that do not come", light, f"{share:.1%}", FALSE, symptom))
    return Section(
        "reward",
        "Reward",
        "The actor learns from predicted rewards alone. Are they the ones that come?",
        findings,
        [_bins(guess, reward, ("predicted reward", "reward that came"))],
    )


def _error(name: str, reward: Tensor, guess: Tensor) -> Finding:
    rows = reward != 0
    if int(rows.sum()) < 5:
        reason = f"{int(rows.sum())} rewards other than 0: give more --steps, or none is found yet"
        return unknown(name, reason, REWARD)
    real, guess = reward[rows], guess[rows]
    best = float(real.square().mean())
    if float(real.std()) > 0.05 * float(real.abs().mean()):  # else the mean is right for no merit
        best = min(best, float(real.var(correction=0)))
    ratio = float((guess - real).square().mean()) / best
    light = graded(ratio, 0.5, 0.95)
    number = f"×{ratio:.3g} of the best constant's ({int(rows.sum())} rewards)"
    return Finding(name, light, number, REWARD, "" if light == "green" else "reward")


@torch.no_grad()
def value_section(look: Look) -> Section:
    """What the value promises for the next rows against what they brought."""
    claim, real, steps = promises(look)
    title, names = "Value", ("correlation of value and return", "bias of the value")
    question = (
        f"The value of a row, less the discounted value {steps} rows later, promises the rewards "
        f"in between. Do they come?"
    )
    if len(real) < 20 or float(real.abs().max()) == 0:
        few = f"{len(real)} rows with a known return, 20 are needed: give more --steps"
        reason = few if len(real) < 20 else "no reward came in these episodes"
        findings = [unknown(names[0], reason, CORRELATION), unknown(names[1], reason, BIAS)]
        return Section("value", title, question, findings, [])
    findings = [_correlation(names[0], claim, real)]
    size = real.square().mean().sqrt()
    bias = float((claim - real).mean() / size)
    light = graded(abs(bias), 0.5, 2.0)
    number = f"{bias:+.0%} of a typical return; promised {claim.mean():.3g}, came {real.mean():.3g}"
    symptom = "" if light == "green" else "high" if bias > 0 else "low"
    findings.append(Finding(names[1], light, number, BIAS, symptom))
    labels = (f"promised by the value, next {steps} rows", "discounted rewards that came")
    return Section("value", title, question, findings, [_bins(claim, real, labels)])


def promises(look: Look) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"], int]:
    """V[t] - γ^h V[t+h] (V[t] where the episode ends before) and the rewards of rows t+1 … t+h.

    Returns of h rows need no guess of what comes after them, so that neither a time limit nor the
    end of the data makes a right value look wrong. h is 1 / (1 - γ), or shorter where that leaves
    too few rows.
    """
    batch, gamma = look.batch, look.cfg.gamma
    value = look.agent.value(look.feature).mean
    time = batch.reward.shape[1]
    steps = max(1, min(round(1 / (1 - gamma)), time // 2))
    while True:
        real, known = realised_return(
            batch.reward, batch.is_last, batch.is_terminal, gamma, horizon=steps
        )
        if steps < 10 or float(known.float().mean()) > 0.25:
            break
        steps //= 2
    ahead = (torch.arange(time, device=value.device) + steps).clamp(max=time - 1)
    ends = batch.is_terminal.long().cumsum(1)
    over = ends[:, ahead] > ends
    claim = value - gamma**steps * value[:, ahead] * ~over
    return claim[known], real[known], steps


def _correlation(name: str, claim: Tensor, real: Tensor) -> Finding:
    if float(real.std()) < 0.05 * float(real.abs().mean()):
        return unknown(
            name, "the returns hardly differ: there is nothing to tell apart", CORRELATION
        )
    pair = torch.stack([claim, real]).double()
    correlation = float(pair.corrcoef()[0, 1]) if float(claim.std()) > 0 else 0.0
    light = "green" if correlation >= 0.5 else "amber" if correlation > 0 else "red"
    slope = correlation * float(real.std()) / max(float(claim.std()), 1e-12)
    number = f"{correlation:.2f}, slope {slope:.3g} ({len(real)} rows)"
    return Finding(name, light, number, CORRELATION, "" if light == "green" else "unrelated")


@torch.no_grad()
def continue_section(look: Look) -> Section:
    """Predicted continuation on terminal rows and elsewhere; γ is inside the prediction."""
    guess, end, gamma = look.agent.cont(look.feature).mean, look.batch.is_terminal, look.cfg.gamma
    name = "continuation at the end of an episode"
    if end.any():
        mean = float(guess[end].mean()) / gamma
        light = graded(mean, 0.3, 0.7)
        number = f"{mean:.3f} of γ, on {int(end.sum())} terminal rows (0 is right)"
        findings = [Finding(name, light, number, TERMINAL, "" if light == "green" else "deathless")]
    else:
        findings = [unknown(name, "no episode ended by itself in these rows", TERMINAL)]
    horizon = 1 / max(1 - float(guess[~end].median()), 1e-9)
    wanted = 1 / (1 - gamma)
    factor = max(horizon / wanted, wanted / horizon)
    light = graded(factor, 2, 4)
    number = f"{horizon:.4g} rows, {wanted:.4g} is right"
    symptom = "" if light == "green" else "horizon"
    findings.append(Finding("effective horizon elsewhere", light, number, ALIVE, symptom))
    figures = [_before_the_end(guess, end, gamma)] if end.any() else []
    question = "Does the model know when an episode is over, and only then?"
    return Section("continue", "Continue", question, findings, figures)


def _before_the_end(guess: Tensor, end: Bool[Tensor, "env time"], gamma: float) -> Figure:
    before = 10
    env, row = (index[end.nonzero()[:, 1] >= before] for index in end.nonzero().unbind(1))
    steps = list(range(-before, 1))
    means = [float(guess[env, row + step].mean()) if len(env) else float("nan") for step in steps]
    chart = Chart(steps, [0.0, 1.0], ("rows before the terminal one", "predicted continuation"))
    chart.line(steps, means, 0)
    chart.dots(steps, means, 0)
    chart.mark(gamma, "γ")
    return Figure(chart.html("continuation before an end"), f"Mean over {len(env)} ends.")


def _bins(guess: Tensor, real: Tensor, labels: tuple[str, str]) -> Figure:
    """Mean outcome by quantile of the prediction, with two standard errors."""
    guess, real = guess.flatten().float(), real.flatten().float()
    order = guess.argsort()
    pieces = [piece for piece in order.chunk(12) if len(piece)]
    x = [float(guess[piece].mean()) for piece in pieces]
    y = [float(real[piece].mean()) for piece in pieces]
    doubt = [2 * float(real[p].std(correction=0)) / len(p) ** 0.5 for p in pieces]
    some = torch.linspace(0, len(order) - 1, min(len(order), 300)).long()
    faint = guess[some].tolist(), real[some].tolist()
    # What came is on both axes: a prediction that hardly varies is then seen to hardly vary.
    chart = Chart([*x, *faint[0], *y], [*y, *faint[1]], labels)
    chart.dots(*faint, 5, "a row", faint=True)
    chart.diagonal("as predicted")
    for a, b, half in zip(x, y, doubt, strict=True):
        chart.line([a, a], [b - half, b + half], 0)
    chart.dots(x, y, 0, "mean of a twelfth")
    caption = (
        "Rows sorted by the prediction and cut into twelfths: what was predicted on average, what "
        "came on average (± two standard errors). Calibrated predictions lie on the diagonal."
    )
    return Figure(chart.html(f"{labels[0]} against {labels[1]}"), caption)
