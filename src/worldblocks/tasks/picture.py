"""A picture of a run of several tasks: the scores of each, and a map of latents."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.run.config import read_config
from worldblocks.run.curve import COLOURS, DARK, running_mean, say, style
from worldblocks.run.extras import extra
from worldblocks.run.log.sinks import read_jsonl
from worldblocks.typing import typed


@typed
def principal_axes(
    x: Float[Tensor, "batch feature"], count: int = 2
) -> tuple[Float[Tensor, "batch axes"], Float[Tensor, " axes"]]:
    """Points in the coordinates of their principal axes, and the axes' shares of the variance.

    The sign of an axis makes its largest coefficient positive.

    Args:
        x: points.
        count: number of axes.

    Raises:
        ValueError: there are fewer points or features than axes.

    Source: principal component analysis, by the singular values of the centred points.

    >>> points, share = principal_axes(torch.tensor([[0.0, 3.0], [0.0, -3.0], [1.0, 0.0]]), 1)
    >>> points.flatten().tolist(), round(share.item(), 2)
    ([3.0, -3.0, 0.0], 0.96)
    """
    if min(x.shape) < count or count < 1:
        raise ValueError(
            f"requested {count} principal axes of {len(x)} points of {x.shape[1]} numbers; give "
            f"for 1 to {min(x.shape)}"
        )
    centred = (x - x.mean(0)).double()
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:count]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    share = values.square() / values.square().sum().clamp(min=1e-300)
    return (centred @ (axes * largest.sign()).T).to(x.dtype), share[:count].to(x.dtype)


def plot_tasks(
    run: Path | str,
    *,
    latents: Mapping[str, Float[Tensor, "_ feature"]] | None = None,
    title: str | None = None,
) -> Path:
    """Draw `tasks.png` into a run folder.

    Above is a chart per task: finished episodes against environment steps in the task, the mean of
    the last ten, the 95th percentile of a random policy's episodes and the episodes played after
    training; the last two if `scores.json` has them. Below are the latents on their first two
    principal axes, coloured by task.

    Args:
        run: A folder with `episodes.jsonl`, whose lines name a task, and `scores.json`: by task
            `random` and `trained`, each with the `scores` of episodes.
        latents: Points by task; without them there is no map.
        title: Title; the name of the folder if None.
    """
    run = Path(run)
    lines = read_jsonl(run / "episodes.jsonl")
    path = run / "scores.json"
    judged = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    tasks = list(dict.fromkeys([*judged, *(line.get("task", "") for line in lines)]))
    repeat = read_config(run).get("repeat", 1) if (run / "config.json").exists() else 1
    figure = extra("matplotlib.figure", "plot_tasks").Figure(
        (4.5 * max(2, len(tasks)), 9 if latents else 4.5), dpi=110, layout="constrained"
    )
    extra("matplotlib.backends.backend_agg", "plot_tasks").FigureCanvasAgg(figure)
    figure.suptitle(title or run.resolve().name, x=0.012, ha="left", weight="bold", color=DARK)
    parts = figure.subfigures(2, 1, height_ratios=(1, 1.1)) if latents else [figure]
    charts = np.atleast_1d(parts[0].subplots(1, max(1, len(tasks)), sharey=False))
    for place, (task, axes) in enumerate(zip(tasks, charts, strict=False)):
        own = [line for line in lines if line.get("task", "") == task]
        _returns(axes, task, own, judged.get(task, {}), repeat, COLOURS[place % len(COLOURS)])
    if not tasks:
        style(charts[0], "score of an episode")
        say(charts[0], "no finished episode yet")
    if latents:
        _map(parts[1].subplots(), latents, tasks)
    figure.savefig(run / "tasks.png")
    return run / "tasks.png"


def _returns(
    axes: Any, task: str, lines: list[dict], judged: Mapping[str, Any], repeat: int, colour: str
) -> None:
    style(axes, "score of an episode")
    axes.set_title(task, color=DARK, fontsize=11)
    axes.set_xlabel("environment steps in this task (actions × repeat)", color=DARK)
    steps = np.array([line["step"] for line in lines]) * repeat
    scores = np.array([line["score"] for line in lines], float)
    if len(steps):
        axes.plot(steps, scores, "o", ms=4, color=colour, alpha=0.35, mew=0, label="episode")
        axes.plot(steps, running_mean(scores), color=colour, lw=2.2, label="mean of the last 10")
    end = steps.max(initial=1)
    if "random" in judged:
        bar = float(np.percentile(judged["random"]["scores"], 95))
        count = len(judged["random"]["scores"])
        words = f"random policy: 95th percentile of {count} = {bar:,.4g}"
        axes.axhline(bar, color=DARK, lw=1.2, ls="--", label=words)
    if "trained" in judged:
        final = np.array(judged["trained"]["scores"])
        words = f"after training: mean of {len(final)} = {final.mean():,.4g}"
        place = np.full(len(final), 1.04 * end)
        axes.plot(place, final, "_", ms=8, color=colour, alpha=0.5)
        axes.plot(place[:1], final.mean(), "D", ms=8, color=colour, mec="white", label=words)
    if not len(steps) and not judged:
        say(axes, "no finished episode yet")
        return
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(extra("matplotlib.ticker", "plot_tasks").EngFormatter(sep=""))
    axes.legend(frameon=False, labelcolor=DARK, fontsize=8, loc="best")


def _map(axes: Any, latents: Mapping[str, Tensor], tasks: list[str]) -> None:
    points = [x.detach().float().cpu() for x in latents.values()]
    flat, share = principal_axes(torch.cat(points))
    style(axes, f"axis 2: {share[1]:.0%} of the variance")
    axes.set_xlabel(f"axis 1: {share[0]:.0%} of the variance", color=DARK)
    axes.set_title("latents, by task", color=DARK, fontsize=11)
    places = {task: place for place, task in enumerate(dict.fromkeys([*tasks, *latents]))}
    for (task, _), own in zip(latents.items(), flat.split([len(x) for x in points]), strict=True):
        colour = COLOURS[places[task] % len(COLOURS)]
        axes.plot(*own.T.numpy(), "o", ms=3, mew=0, alpha=0.45, color=colour, label=task)
    axes.legend(frameon=False, labelcolor=DARK, markerscale=2)
