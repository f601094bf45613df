"""Calibration of the reward, value and continue heads on held-out rows."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.diagnose.comparisons import realised_return
from worldblocks.diagnose.finding import Figure, Finding, Section, graded, judged, unknown
from worldblocks.diagnose.inputs import Inputs
from worldblocks.diagnose.page.charts import Chart
from worldblocks.diagnose.rollouts import CONTEXT, STEPS

REWARD = (
    "squared error on non-zero rewards over that of the best constant; green up to ×0.5, amber up "
    "to ×0.95"
)
FALSE = (
    "mean |prediction| on zero rewards over the mean |reward| elsewhere; green up to 10%, amber up "
    "to 50%"
)
CORRELATION = "green from 0.5, amber above 0"
BIAS = "green up to half of a typical return, amber up to twice"
TERMINAL = "mean prediction on terminal rows over γ; green up to 0.3, amber up to 0.7"
ALIVE = "1 / (1 - median prediction) against 1 / (1 - γ); green within a factor of 2, amber of 4"


@torch.no_grad()
def reward_section(inputs: Inputs) -> Section:
    """Predicted against received rewards."""
    reward, guess = inputs.batch.reward, inputs.agent.reward(inputs.feature).mean
    findings = [_error("reward error on observed rows", reward, guess)]
    if inputs.windows is not None and inputs.predictions is not None:
        ahead, real = inputs.predictions.reward[:, CONTEXT:], inputs.windows.reward[:, CONTEXT:]
        findings.append(_error(f"reward error 1 to {STEPS} steps ahead", real, ahead))
    zero, size = reward == 0, reward.abs()[reward != 0].mean()
    if zero.any() and not zero.all():
        share = float(guess[zero].abs().mean() / size)
        light = graded(share, 0.1, 0.5)
        findings.append(judged("prediction on zero rewards", light, f"{share:.1%}", FALSE, "false"))
    return Section(
        "reward",
        "Reward",
        "The actor learns from predicted rewards only. Are the predictions right?",
        findings,
        [_bins(guess, reward, ("predicted reward", "received reward"))],
    )


def _error(name: str, reward: Tensor, guess: Tensor) -> Finding:
    rows = reward != 0
    count = int(rows.sum())
    if count < 5:
        reason = f"only {count} non-zero rewards: increase --steps, or train until some are found"
        return unknown(name, reason, REWARD)
    real, guess = reward[rows], guess[rows]
    best = float(real.square().mean())
    if float(real.std()) > 0.05 * float(real.abs().mean()):  # nearly equal rewards need no model
        best = min(best, float(real.var(correction=0)))
    ratio = float((guess - real).square().mean()) / best
    number = f"×{ratio:.3g} of the best constant's ({count} rewards)"
    return judged(name, graded(ratio, 0.5, 0.95), number, REWARD, "constant")


@torch.no_grad()
def value_section(inputs: Inputs) -> Section:
    """Returns predicted by the value against received returns."""
    claim, real, steps = predicted_returns(inputs)
    key, title, names = "value", "Value", ("correlation of value and return", "bias of the value")
    question = (
        f"The value of a row minus the discounted value {steps} rows later predicts the rewards in "
        f"between. Is the prediction right?"
    )
    if len(real) < 20 or float(real.abs().max()) == 0:
        few = f"only {len(real)} rows with a known return, 20 are needed: increase --steps"
        reason = few if len(real) < 20 else "these episodes have no reward"
        findings = [unknown(names[0], reason, CORRELATION), unknown(names[1], reason, BIAS)]
        return Section(key, title, question, findings, [])
    size = real.square().mean().sqrt()
    bias = float((claim - real).mean() / size)
    number = (
        f"{bias:+.0%} of a typical return; predicted {claim.mean():.3g}, received {real.mean():.3g}"
    )
    symptom = "high" if bias > 0 else "low"
    findings = [
        _correlation(names[0], claim, real),
        judged(names[1], graded(abs(bias), 0.5, 2.0), number, BIAS, symptom),
    ]
    labels = (f"return predicted by the value, next {steps} rows", "received return")
    return Section(key, title, question, findings, [_bins(claim, real, labels)])


def predicted_returns(
    inputs: Inputs,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"], int]:
    """V[t] - γ^h V[t+h] (V[t] if the episode ends before), and the rewards of rows t+1 … t+h.

    An h-row return needs no estimate of what follows it. Neither a time limit nor the end of the
    data makes a right value look wrong. h is 1 / (1 - γ), shorter if that leaves too few rows.
    """
    batch, gamma = inputs.batch, inputs.cfg.gamma
    value = inputs.agent.value(inputs.feature).mean
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
        return unknown(name, "the returns are nearly equal", CORRELATION)
    pair = torch.stack([claim, real]).double()
    correlation = float(pair.corrcoef()[0, 1]) if float(claim.std()) > 0 else 0.0
    light = "green" if correlation >= 0.5 else "amber" if correlation > 0 else "red"
    slope = correlation * float(real.std()) / max(float(claim.std()), 1e-12)
    number = f"{correlation:.2f}, slope {slope:.3g} ({len(real)} rows)"
    return judged(name, light, number, CORRELATION, "uncorrelated")


@torch.no_grad()
def continue_section(inputs: Inputs) -> Section:
    """Continue predictions, which include γ, on terminal and on other rows."""
    end, gamma = inputs.batch.is_terminal, inputs.cfg.gamma
    guess = inputs.agent.cont(inputs.feature).mean
    name = "continue prediction on terminal rows"
    if end.any():
        mean = float(guess[end].mean()) / gamma
        number = f"{mean:.3f} of γ on {int(end.sum())} terminal rows (target 0)"
        findings = [judged(name, graded(mean, 0.3, 0.7), number, TERMINAL, "missed")]
    else:
        findings = [unknown(name, "no episode terminated in these rows", TERMINAL)]
    horizon = 1 / max(1 - float(guess[~end].median()), 1e-9)
    wanted = 1 / (1 - gamma)
    light = graded(max(horizon / wanted, wanted / horizon), 2, 4)
    number = f"{horizon:.4g} rows (target {wanted:.4g})"
    findings.append(judged("effective horizon on other rows", light, number, ALIVE, "horizon"))
    figures = [_before_the_end(guess, end, gamma)] if end.any() else []
    question = "Does the model predict the ends of episodes, and nothing else as an end?"
    return Section("continue", "Continue", question, findings, figures)


def _before_the_end(guess: Tensor, end: Bool[Tensor, "env time"], gamma: float) -> Figure:
    before = 10
    env, row = (index[end.nonzero()[:, 1] >= before] for index in end.nonzero().unbind(1))
    steps = list(range(-before, 1))
    means = [float(guess[env, row + step].mean()) if len(env) else float("nan") for step in steps]
    chart = Chart(steps, [0.0, 1.0], ("rows relative to the terminal row", "continue prediction"))
    chart.line(steps, means, 0)
    chart.dots(steps, means, 0)
    chart.mark(gamma, "γ")
    figure = chart.html("continue prediction before an end")
    return Figure(figure, f"Mean over the ends of {len(env)} episodes.")


def _bins(guess: Tensor, real: Tensor, labels: tuple[str, str]) -> Figure:
    """Mean outcome by quantile of the prediction, with two standard errors."""
    guess, real = guess.flatten().float(), real.flatten().float()
    order = guess.argsort()
    pieces = [piece for piece in order.chunk(12) if len(piece)]
    x = [float(guess[piece].mean()) for piece in pieces]
    y = [float(real[piece].mean()) for piece in pieces]
    margin = [2 * float(real[p].std(correction=0)) / len(p) ** 0.5 for p in pieces]
    some = torch.linspace(0, len(order) - 1, min(len(order), 300)).long()
    faint = guess[some].tolist(), real[some].tolist()
    # Both axes span the outcomes, so that a nearly constant prediction looks nearly constant.
    chart = Chart([*x, *faint[0], *y], [*y, *faint[1]], labels)
    chart.dots(*faint, 5, "one row", faint=True)
    chart.diagonal("calibrated")
    for a, b, half in zip(x, y, margin, strict=True):
        chart.line([a, a], [b - half, b + half], 0)
    chart.dots(x, y, 0, "mean of a bin")
    caption = (
        "Rows sorted by the prediction, in twelve bins: mean prediction and mean outcome "
        "(± two standard errors). Calibrated predictions lie on the diagonal."
    )
    return Figure(chart.html(f"{labels[0]} against {labels[1]}"), caption)
