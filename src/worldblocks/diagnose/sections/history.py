"""Training curves, and the losses on held-out rows compared with those in training."""

import math
from pathlib import Path
from typing import Any

import torch

from worldblocks.diagnose.finding import Figure, Finding, Section, judged, unknown
from worldblocks.diagnose.inputs import Inputs
from worldblocks.diagnose.page.charts import Chart
from worldblocks.diagnose.sections.policy import within_rewards
from worldblocks.run.curve import running_mean
from worldblocks.run.log.sinks import read_jsonl

SCORE = "last third of the episodes above the first by two standard errors; red: as far below"
FINITE = "every logged metric is finite"
HELD_OUT = "loss on held-out windows over the training loss; green up to ×2, amber up to ×10"
RETURNS = ("return_min", "return_max")  # imagined in training, means over the updates of a line
FEWEST = 12  # episodes
PAIRED = ("obs", "reward", "cont", "dyn")  # losses that are compared
NO_METRICS = "no metrics are logged"


@torch.no_grad()
def section(inputs: Inputs, run: Path | None, task: str = "") -> Section:
    """Scores and losses of the run, or of one of its tasks, and the losses on held-out rows."""
    episodes = read_jsonl(run / "episodes.jsonl") if run else []
    metrics = read_jsonl(run / "metrics.jsonl") if run else []
    if task:
        episodes = [line for line in episodes if line.get("task") == task]
        metrics = [_of_task(line, task) for line in metrics]
    findings = [_score(episodes), _finite(metrics), *_returns(inputs, metrics)]
    findings.append(_held_out(inputs, metrics))
    figures = [_scores(episodes)] if episodes else []
    names = sorted({name for line in metrics for name in line if name.startswith("loss/")})
    names += [k for k in ("value", "policy_entropy") if any(x.get(k) is not None for x in metrics)]
    figures += [_curve(metrics, name) for name in names]
    question = "How did training go, and are the losses as low on held-out rows?"
    return Section("history", "Training curves", question, findings, figures)


def _of_task(line: dict[str, Any], task: str) -> dict[str, Any]:
    """The metrics of one task and the shared ones, without the name of the task."""
    own = {}
    for name, value in line.items():
        head = "loss/" * name.startswith("loss/")
        rest = name.removeprefix(head)
        if rest.startswith(f"{task}/"):
            own[head + rest.removeprefix(f"{task}/")] = value
        elif "/" not in rest:
            own[name] = value
    return own


def _score(episodes: list[dict[str, Any]]) -> Finding:
    if len(episodes) < FEWEST:
        reason = f"{len(episodes)} finished episodes in training, {FEWEST} are needed"
        return unknown("score", reason, SCORE)
    scores = torch.tensor([float(episode["score"]) for episode in episodes])
    third = len(scores) // 3
    first, last = scores[:third], scores[-third:]
    gap = float(last.mean() - first.mean())
    margin = 2 * float((first.var() / third + last.var() / third).sqrt())
    number = f"{first.mean():.4g} → {last.mean():.4g} (± {margin:.2g})"
    light = "green" if gap > margin else "red" if gap < -margin else "amber"
    return judged("score", light, number, SCORE, "flat" if light == "amber" else "fell")


def _finite(metrics: list[dict[str, Any]]) -> Finding:
    name = "finite metrics"
    if not metrics:
        return unknown(name, NO_METRICS, FINITE)
    broken = [(line["step"], k) for line in metrics for k, value in line.items() if value is None]
    if not broken:
        return Finding(name, "green", f"in all {len(metrics)} lines", FINITE)
    step, key = broken[0]
    number = f"{key} was not finite at step {step:,} ({len(broken)} such values)"
    return Finding(name, "red", number, FINITE, "nonfinite")


def _returns(inputs: Inputs, metrics: list[dict[str, Any]]) -> list[Finding]:
    ends = [line[name] for line in metrics for name in RETURNS if line.get(name) is not None]
    return [within_rewards("returns in training", torch.tensor(ends), inputs)] if ends else []


def _held_out(inputs: Inputs, metrics: list[dict[str, Any]]) -> Finding:
    name = "losses on held-out rows"
    if inputs.training is None or not metrics:
        return unknown(name, NO_METRICS if not metrics else "fewer than 3 rows", HELD_OUT)
    _, losses, _ = inputs.recipe.world_model_loss(inputs.agent, inputs.training, inputs.cfg)
    ratios = {}
    for loss in PAIRED:
        logged = [line[f"loss/{loss}"] for line in metrics[-5:] if line.get(f"loss/{loss}")]
        if logged and loss in losses:
            ratios[loss] = float(losses[loss].mean()) * len(logged) / sum(logged)
    if not ratios:
        return unknown(name, f"the metrics have no loss of {', '.join(PAIRED)}", HELD_OUT)
    worst = max(ratios.values())
    light = "green" if worst <= 2 else "amber" if worst <= 10 else "red"
    number = ", ".join(f"{loss} ×{ratio:.2g}" for loss, ratio in ratios.items())
    return judged(name, light, number, HELD_OUT, "held_out")


def _scores(episodes: list[dict[str, Any]]) -> Figure:
    every = max(1, math.ceil(len(episodes) / 500))
    kept = episodes[::every]
    steps = [float(episode["step"]) for episode in kept]
    scores = torch.tensor([float(episode["score"]) for episode in episodes])
    mean = running_mean(scores.numpy())[::every].tolist()
    each = [float(episode["score"]) for episode in kept]
    chart = Chart([0.0, *steps], each, ("steps", "score of an episode"))
    chart.dots(steps, each, 0, "episode", faint=True)
    chart.line(steps, mean, 0, "mean of the last 10")
    return Figure(chart.html("score of training episodes"), "Training episodes.")


def _curve(metrics: list[dict[str, Any]], name: str) -> Figure:
    lines = [line for line in metrics if line.get(name) is not None]
    lines = lines[:: max(1, math.ceil(len(lines) / 400))]
    steps = [float(line["step"]) for line in lines]
    values = [float(line[name]) for line in lines]
    log = bool(values) and min(values) > 0 and max(values) > 20 * min(values)
    chart = Chart([0.0, *steps], values, ("steps", name), log=log, height=170)
    chart.line(steps, values, 0)
    return Figure(chart.html(name), "")
