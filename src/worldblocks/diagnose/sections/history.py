"""Section 10: the run so far, from its own files."""

import math
from pathlib import Path
from typing import Any

import torch

from worldblocks.diagnose.finding import Figure, Finding, Section, unknown
from worldblocks.diagnose.inputs import Look
from worldblocks.diagnose.page.charts import Chart
from worldblocks.diagnose.sections.policy import within_rewards
from worldblocks.run.curve import running_mean
from worldblocks.run.sinks import read_jsonl

SCORE = "last third of the episodes above the first by two standard errors; red: below it so"
NUMBERS = "every metric of every line is a number"
UNSEEN = "loss on held-out windows at most ×2 of training's; amber to ×10"
RETURNS = ("return_min", "return_max")  # of imagination, means over the updates of a line
FEWEST = 12  # episodes
PAIRED = ("obs", "reward", "cont", "dyn")  # losses that are compared on both kinds of rows


@torch.no_grad()
def section(look: Look, run: Path | None) -> Section:
    """Scores and losses of the run, and its losses on rows it has not seen."""
    episodes = read_jsonl(run / "episodes.jsonl") if run else []
    metrics = read_jsonl(run / "metrics.jsonl") if run else []
    findings = [_score(episodes), _numbers(metrics), *_returns(look, metrics)]
    findings += _unseen(look, metrics)
    figures = [_scores(episodes)] if episodes else []
    names = sorted({name for line in metrics for name in line if name.startswith("loss/")})
    figures += [_curve(metrics, name) for name in names]
    figures += [
        _curve(metrics, name) for name in ("value", "policy_entropy") if _points(metrics, name)[0]
    ]
    question = "How did the run get here, and does it do as well on rows it has not seen?"
    return Section("history", "Curves of the run", question, findings, figures)


def _score(episodes: list[dict[str, Any]]) -> Finding:
    name = "score"
    if len(episodes) < FEWEST:
        reason = f"{len(episodes)} finished episodes in training, {FEWEST} are needed"
        return unknown(name, reason, SCORE)
    scores = torch.tensor([float(episode["score"]) for episode in episodes])
    third = len(scores) // 3
    first, last = scores[:third], scores[-third:]
    gap = float(last.mean() - first.mean())
    doubt = 2 * float((first.var() / third + last.var() / third).sqrt())
    number = f"{first.mean():.4g} → {last.mean():.4g} (± {doubt:.2g})"
    light = "green" if gap > doubt else "red" if gap < -doubt else "amber"
    symptom = {"green": "", "amber": "flat", "red": "fell"}[light]
    return Finding(name, light, number, SCORE, symptom)


def _numbers(metrics: list[dict[str, Any]]) -> Finding:
    name = "metrics are numbers"
    if not metrics:
        return unknown(name, "no line of metrics yet", NUMBERS)
    broken = [(line["step"], k) for line in metrics for k, value in line.items() if value is None]
    if not broken:
        return Finding(name, "green", f"in all {len(metrics)} lines", NUMBERS)
    step, key = broken[0]
    number = f"{key} was not finite at step {step:,} ({len(broken)} times in all)"
    return Finding(name, "red", number, NUMBERS, "infinite")


def _returns(look: Look, metrics: list[dict[str, Any]]) -> list[Finding]:
    ends = [line[name] for line in metrics for name in RETURNS if line.get(name) is not None]
    return [within_rewards("returns in training", torch.tensor(ends), look)] if ends else []


def _unseen(look: Look, metrics: list[dict[str, Any]]) -> list[Finding]:
    name = "losses on unseen rows"
    if look.short is None or not metrics:
        reason = "no line of metrics yet" if not metrics else "fewer than 3 rows"
        return [unknown(name, reason, UNSEEN)]
    _, losses, _ = look.recipe.world_model_loss(look.agent, look.short, look.cfg)
    ratios = {}
    for loss in PAIRED:
        seen = [line[f"loss/{loss}"] for line in metrics[-5:] if line.get(f"loss/{loss}")]
        if seen and loss in losses:
            ratios[loss] = float(losses[loss].mean()) * len(seen) / sum(seen)
    if not ratios:
        return [unknown(name, f"the metrics hold no loss of {', '.join(PAIRED)}", UNSEEN)]
    worst = max(ratios.values())
    light = "green" if worst <= 2 else "amber" if worst <= 10 else "red"
    number = ", ".join(f"{loss} ×{ratio:.2g}" for loss, ratio in ratios.items())
    return [Finding(name, light, number, UNSEEN, "" if light == "green" else "unseen")]


def _scores(episodes: list[dict[str, Any]]) -> Figure:
    kept = episodes[:: max(1, math.ceil(len(episodes) / 500))]
    steps = [float(episode["step"]) for episode in kept]
    scores = torch.tensor([float(episode["score"]) for episode in episodes])
    mean = running_mean(scores.numpy())[:: max(1, math.ceil(len(episodes) / 500))].tolist()
    each = [float(episode["score"]) for episode in kept]
    chart = Chart([0.0, *steps], each, ("steps", "score of an episode"))
    chart.dots(steps, each, 0, "episode", faint=True)
    chart.line(steps, mean, 0, "mean of the last 10")
    return Figure(chart.html("score of training episodes"), "Training episodes.")


def _points(metrics: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    lines = [line for line in metrics if line.get(name) is not None]
    lines = lines[:: max(1, math.ceil(len(lines) / 400))]
    return [float(line["step"]) for line in lines], [float(line[name]) for line in lines]


def _curve(metrics: list[dict[str, Any]], name: str) -> Figure:
    steps, values = _points(metrics, name)
    log = bool(values) and min(values) > 0 and max(values) > 20 * min(values)
    chart = Chart([0.0, *steps], values, ("steps", name), log=log, height=170)
    chart.line(steps, values, 0)
    return Figure(chart.html(name), "")
