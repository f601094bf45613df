"""Published learning curves, and plots of runs over them at equal environment steps."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldblocks.evaluate.scores import binned_scores
from worldblocks.run.config import read_config
from worldblocks.run.curve import BLUE, COLOURS, DARK, say, style
from worldblocks.run.extras import extra
from worldblocks.run.log.sinks import read_jsonl

MANY = 5  # seeds from which mean and standard deviation are drawn, not every seed
INK = "#8a909c"  # colour of the published curve


class Published(NamedTuple):
    """A published curve: mean and standard deviation over seeds at each environment step."""

    task: str
    source: str
    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    seeds: np.ndarray

    @property
    def width(self) -> float:
        """Bin width: the score at x is that of the episodes that ended in (x - width, x]."""
        return float(self.steps[1] - self.steps[0])


class Episodes(NamedTuple):
    """Scores of a run's finished episodes, and the facts of the run that a plot shows."""

    name: str
    steps: np.ndarray  # environment steps at the end of each episode: actions · repeat
    scores: np.ndarray
    repeat: int = 1
    train_ratio: float | None = None


def read_episodes(run: Path | str, task: str = "") -> Episodes:
    """The finished episodes of a run folder; with `task`, those of one of its tasks."""
    config = read_config(run)
    lines = [line for line in read_jsonl(Path(run) / "episodes.jsonl") if line["score"] is not None]
    lines = [line for line in lines if not task or line.get("task") == task]
    repeat = config.get("repeat", 1)
    steps = np.array([line["step"] * repeat for line in lines], int)
    scores = np.array([line["score"] for line in lines], float)
    return Episodes(Path(run).resolve().name, steps, scores, repeat, config.get("train_ratio"))


def read_published(path: Path | str, task: str) -> Published:
    """One task of a file of published curves.

    The file is JSON with the `source` of the numbers, and `tasks` with a list of
    `[environment steps, mean, std, seeds]` for each task.

    Raises:
        KeyError: The file has no such task; the message suggests a similar one.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if task not in content["tasks"]:
        near = difflib.get_close_matches(task, content["tasks"], 1, 0.0)
        raise KeyError(f"no task {task!r} in {path}; did you mean {near[0]!r}?")
    columns = np.array(content["tasks"][task], float).T
    return Published(task, content["source"], *columns)


def score_curves(
    runs: Sequence[Path | str | Episodes], width: float, until: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Binned scores of several runs at the environment steps that all of them have reached.

    Args:
        runs: Run folders, or episodes from `read_episodes`. A step in `episodes.jsonl` is an
            action; environment steps, as counted by published curves, are actions times `repeat`.
        width: Bin width, in environment steps.
        until: As in `binned_scores`.

    Returns:
        Environment steps, `bins`, and scores, `runs bins`.

    Raises:
        ValueError: A run has no finished episode.
    """
    binned = []
    for run in map(_episodes, runs):
        if not len(run.steps):
            raise ValueError(f"{run.name} has no finished episode, so there is no score to draw")
        binned.append(binned_scores(run.steps, run.scores, width, until=until))
    begin = max(edges[0] for edges, _ in binned)
    end = min(edges[-1] for edges, _ in binned)
    kept = [means[(edges >= begin) & (edges <= end)] for edges, means in binned]
    return np.arange(begin, end + width / 2, width), np.stack(kept)


def plot_published(
    runs: Sequence[Path | str | Episodes],
    path: Path | str,
    *,
    published: Published | None = None,
    others: Mapping[str, Sequence[Path | str | Episodes]] | None = None,
    parameters: int | None = None,
    title: str | None = None,
    width: float | None = None,
) -> Path:
    """Plot runs of one configuration over a published curve, at equal environment steps.

    Fewer than five seeds are all drawn, with the median and the range from minimum to maximum.
    Five or more are drawn as mean and standard deviation. Each finished episode is a faint dot. The
    subtitle has the model's size, the train ratio and the action repeat.

    Args:
        runs: Run folders that differ in their seed, or episodes from `read_episodes`. Runs without
            a finished episode are left out.
        path: Path of the picture.
        published: Published curve, drawn as mean ± one standard deviation.
        others: Runs of other agents by name, each drawn as median and range.
        parameters: Number of parameters of the model.
        title: Heading; the published task, or the first run's name, if None.
        width: Bin width, in environment steps; by default that of `published`, or a twentieth of
            the longest run.
    """
    figure = extra("matplotlib.figure", "plot_published").Figure(
        (8, 4.8), 110, layout="constrained"
    )
    extra("matplotlib.backends.backend_agg", "plot_published").FigureCanvasAgg(figure)
    axes = figure.subplots()
    ours = [_episodes(run) for run in runs]
    named = published.task if published else ours[0].name
    figure.suptitle(title or named, x=0.012, ha="left", weight="bold", color=DARK)
    axes.set_title(_words(ours[0], parameters), loc="left", fontsize=9, color=DARK)
    last = max(run.steps.max(initial=0) for run in ours)
    width = width or (published.width if published else max(1.0, float(last) / 20))
    end = float(np.ceil(last / width) * width)
    style(axes, "score of training episodes")
    if published:
        _published(axes, published, end)
    for colour, (name, group) in zip(COLOURS[1:], (others or {}).items(), strict=False):
        if ended := [run for run in map(_episodes, group) if len(run.steps)]:
            _group(axes, name, *score_curves(ended, width, until=end), colour, every_seed=False)
    if last:
        ours = [run for run in ours if len(run.steps)]
        for run in ours:
            faint = float(np.clip(60 / len(run.steps), 0.1, 0.4))
            axes.plot(run.steps, run.scores, "o", ms=3, mew=0, color=BLUE, alpha=faint)
        _group(axes, "worldblocks", *score_curves(ours, width), BLUE, every_seed=True)
        axes.legend(loc="best", frameon=False, labelcolor=DARK, fontsize=8)
    else:
        say(axes, "no finished episode yet")
    axes.set_xlim(0, 1.02 * end or None)
    axes.set_xlabel("environment steps (actions × repeat)", color=DARK)
    axes.xaxis.set_major_formatter(
        extra("matplotlib.ticker", "plot_published").EngFormatter(sep="")
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return Path(path)


def _episodes(run: Path | str | Episodes) -> Episodes:
    return run if isinstance(run, Episodes) else read_episodes(run)


def _words(run: Episodes, parameters: int | None) -> str:
    """The subtitle: size, train ratio and action repeat."""
    size = [] if parameters is None else [f"{parameters / 1e6:.2g}M parameters"]
    ratio = [] if run.train_ratio is None else [f"train ratio {run.train_ratio:g}"]
    return ", ".join([*size, *ratio, f"repeat {run.repeat}"])


def _published(axes: Any, curve: Published, end: float) -> None:
    """Draw a published curve up to `end`; all of it if `end` is 0."""
    shown = curve.steps <= (end or np.inf)
    steps, mean, std = curve.steps[shown], curve.mean[shown], curve.std[shown]
    name = f"DreamerV3, published: mean ± std of {curve.seeds.max():.0f} seeds"
    axes.fill_between(steps, mean - std, mean + std, color=INK, alpha=0.25, lw=0)
    axes.plot(steps, mean, color=INK, lw=2, label=name)


def _group(
    axes: Any, name: str, steps: np.ndarray, scores: np.ndarray, colour: str, *, every_seed: bool
) -> None:
    """Draw the mean or median of some seeds, and their spread."""
    count = len(scores)
    if count >= MANY:
        middle, spread = scores.mean(0), scores.std(0)
        low, high, words = middle - spread, middle + spread, f"mean ± std of {count} seeds"
    else:
        middle, low, high = np.median(scores, 0), scores.min(0), scores.max(0)
        words = f"median and range of {count} seeds" if count > 1 else "1 seed"
        for own in scores if every_seed and count > 1 else ():
            axes.plot(steps, own, color=colour, lw=0.8, alpha=0.7)
    axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
    axes.plot(steps, middle, color=colour, lw=2.4 if every_seed else 1.6, label=f"{name}: {words}")
