"""The learning curve of a run: `wb.run.plot_curve`, `python -m worldblocks.run.curve RUN`."""

from pathlib import Path
from typing import Any

import numpy as np

from worldblocks.run.extras import extra
from worldblocks.run.log.sinks import read_jsonl

BLUE, GREY, DARK = "#2a6fbb", "#d5d8de", "#2c3038"
COLOURS = (
    *("#2a6fbb", "#e07a2f", "#3a9d6e", "#b0457b"),
    *("#7a64c8", "#8c8c3a", "#3fa7b8", "#6b4a3a"),
)


def plot_curve(
    logdir: Path | str, *, losses: tuple[str, ...] | None = None, title: str | None = None
) -> Path:
    """Draw `curve.png`: scores above, losses below, against the number of actions.

    Each finished episode is a dot; the line is the mean of the last 10. The picture of a run
    without finished episodes says so.

    Args:
        logdir: A run folder with `episodes.jsonl` and `metrics.jsonl`.
        losses: Metrics to draw; if None, the first eight whose name starts with "loss/".
        title: Title; the name of the folder if None.
    """
    folder = Path(logdir)
    figure = extra("matplotlib.figure", "plot_curve").Figure((9, 7), dpi=110, layout="constrained")
    extra("matplotlib.backends.backend_agg", "plot_curve").FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.suptitle(title or folder.resolve().name, x=0.012, ha="left", weight="bold", color=DARK)
    _scores(upper, read_jsonl(folder / "episodes.jsonl"))
    _losses(lower, read_jsonl(folder / "metrics.jsonl"), losses)
    lower.set_xlabel("actions", color=DARK)
    lower.set_xlim(left=0)
    ticker = extra("matplotlib.ticker", "plot_curve")
    lower.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    lower.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    path = folder / "curve.png"
    figure.savefig(path)
    return path


def running_mean(values: np.ndarray, count: int = 10) -> np.ndarray:
    """Mean of each value and up to `count - 1` values before it.

    >>> running_mean(np.array([1.0, 3.0, 5.0]), 2).tolist()
    [1.0, 2.0, 4.0]
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(0, end - count)
    return (total[end] - total[begin]) / (end - begin)


def _scores(axes: Any, episodes: list[dict[str, Any]]) -> None:
    style(axes, "score of an episode")
    if not episodes:
        say(axes, "no finished episode yet")
        return
    steps = np.array([episode["step"] for episode in episodes])
    scores = np.array([episode["score"] for episode in episodes], float)
    mean = running_mean(scores)
    axes.plot(steps, scores, "o", ms=4, color=BLUE, alpha=0.35, mew=0, label="episode")
    axes.plot(steps, mean, color=BLUE, lw=2.2, label="mean of the last 10")
    axes.annotate(
        f"{mean[-1]:,.4g}",
        (steps[-1], mean[-1]),
        (6, 0),
        textcoords="offset points",
        va="center",
        color=BLUE,
        weight="bold",
    )
    axes.legend(loc="upper left", frameon=False, labelcolor=DARK)


def _losses(axes: Any, lines: list[dict[str, Any]], losses: tuple[str, ...] | None) -> None:
    style(axes, "loss")
    if losses is None:
        names = {name for line in lines for name in line if name.startswith("loss/")}
        losses = tuple(sorted(names)[: len(COLOURS)])
    drawn = 0
    for name in losses:
        points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
        if points:
            x, y = zip(*points, strict=True)
            colour = COLOURS[drawn % len(COLOURS)]
            axes.plot(x, y, ".-", ms=3, lw=1.4, color=colour, label=name.removeprefix("loss/"))
            drawn += 1
    if not drawn:
        say(axes, "no losses yet")
        return
    axes.set_yscale("symlog", linthresh=0.01)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, labelcolor=DARK)


def style(axes: Any, label: str) -> None:
    """Style a chart: a light grid, a label on the vertical axis."""
    axes.set_ylabel(label, color=DARK)
    axes.grid(color=GREY, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=DARK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)


def say(axes: Any, words: str) -> None:
    """Write words in the middle of an empty chart."""
    axes.grid(False)
    axes.tick_params(left=False, labelleft=False)
    centre = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, words, fontsize=14, color="#8a909c", **centre)
