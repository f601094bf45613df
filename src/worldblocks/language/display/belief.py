"""A figure of a reward search: scores, posterior and success."""

from pathlib import Path
from typing import Any

import numpy as np

from worldblocks.language.proposal import Proposal
from worldblocks.run.curve import BLUE, COLOURS, DARK, GREY, running_mean, say, style
from worldblocks.run.extras import extra
from worldblocks.run.log.sinks import read_jsonl

TOP = 8  # candidates with a colour
OUTCOMES = 20  # episodes in the running mean


def plot_belief(run: Path | str) -> Path:
    """Draw `belief.png` into a run folder.

    Top: the scores of the candidates. Middle: their posterior over time. Bottom: the environment's
    own success in each finished episode, in the colour of its candidate, and the mean over 20.

    Args:
        run: a folder with `proposal.json`, `metrics.jsonl` (`belief/<phrase>`) and
            `episodes.jsonl` (`task`, the phrase, and `success`).
    """
    run = Path(run)
    proposal = Proposal.load(run)
    figure = extra("matplotlib.figure", "plot_belief").Figure((9, 10), dpi=90, layout="constrained")
    extra("matplotlib.backends.backend_agg", "plot_belief").FigureCanvasAgg(figure)
    scores, belief, success = figure.subplots(3, 1, height_ratios=(2, 2, 3))
    heading = f"“{proposal.instruction}”, candidates by {proposal.by}"
    figure.suptitle(heading, x=0.012, ha="left", weight="bold", color=DARK)
    shown = proposal.phrases[:TOP]
    colours = dict(zip(shown, COLOURS, strict=False))
    _scores(scores, shown, proposal.scores, colours)
    lines = read_jsonl(run / "metrics.jsonl")
    _belief(belief, lines, shown, proposal.prior, colours)
    _success(success, read_jsonl(run / "episodes.jsonl"), colours)
    belief.sharex(success)
    success.set_xlabel("actions", color=DARK)
    success.set_xlim(left=0)
    figure.savefig(run / "belief.png")
    return run / "belief.png"


def _scores(axes: Any, phrases: list[str], scores: list[float], colours: dict[str, str]) -> None:
    style(axes, "")
    place = np.arange(len(phrases))
    axes.barh(place, scores[: len(phrases)], color=[colours[one] for one in phrases], height=0.7)
    axes.set_yticks(place, phrases, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("score of the ranking", color=DARK)
    if len(set(scores)) == 1 < len(scores):
        axes.set_xticks([])
        axes.text(0.5, 0.5, "all equal", color=DARK, ha="center", transform=axes.transAxes)


def _belief(
    axes: Any, lines: list[dict], shown: list[str], prior: list[float], colours: dict[str, str]
) -> None:
    style(axes, "probability")
    lines = [line for line in lines if any(f"belief/{phrase}" in line for phrase in shown)]
    steps = [0, *(line["step"] for line in lines)]
    for phrase, share in zip(shown, prior, strict=False):
        values = [share, *(line[f"belief/{phrase}"] for line in lines)]
        axes.plot(steps, values, ".-", ms=3, lw=1.8, color=colours[phrase], label=phrase)
    axes.set_ylim(-0.03, 1.03)


def _success(axes: Any, episodes: list[dict], colours: dict[str, str]) -> None:
    style(axes, "success of an episode")
    if not episodes:
        say(axes, "no finished episode yet")
        return
    steps = np.array([one["step"] for one in episodes])
    values = np.array([one["success"] for one in episodes], float)
    colour = [colours.get(one.get("task", ""), GREY) for one in episodes]
    shift = 0.06 * (np.arange(len(values)) * 0.618 % 1 - 0.5)  # separates equal values
    axes.scatter(steps, values + shift, s=16, c=colour, alpha=0.5, linewidths=0)
    words = f"mean of the last {OUTCOMES}"
    axes.plot(steps, running_mean(values, OUTCOMES), color=BLUE, lw=2.2, label=words)
    axes.set_ylim(-0.06, 1.2)  # room for the legend
    axes.legend(loc="upper left", frameon=False, labelcolor=DARK)
