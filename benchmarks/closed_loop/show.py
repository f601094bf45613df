"""The table and the picture of a comparison."""

import itertools
from pathlib import Path
from typing import Any

from benchmarks.closed_loop.games import SIDES
from benchmarks.learning.words import markdown, number, thousands
from worldblocks.run.curve import BLUE, COLOURS, DARK, style
from worldblocks.run.extras import extra

NAMES = {"official": "official", "ours": "worldblocks"}
TITLES = {"cartpole": "CartPole", "catch": "Catch", "pendulum": "Pendulum"}
DRAWN = (  # after the returns
    *("reconstruction loss", "reward loss", "continue loss", "dynamics loss"),
    *("critic loss", "replayed critic loss", "actor loss", "policy entropy"),
    *("value", "imagined return", "gradient norm"),
)
LOGARITHMIC = ("reconstruction loss", "reward loss", "continue loss", "gradient norm")


def tables(data: dict[str, Any]) -> str:
    """The comparison in Markdown: seeds, returns, metrics, times."""
    seeds = ", ".join(f"{len(data['seeds'][side])} {NAMES[side]}" for side in SIDES)
    returns, half = data["returns"], thousands(data["steps"] // 2)
    rows = [["return over the run", *cells(returns["over the run"]), "-"]]
    late = returns["late episodes"]
    counts = ", ".join(f"{late['episodes'][side]} {NAMES[side]}" for side in SIDES)
    if "p" in late:
        rows.append([f"return of episodes that end after step {half}", *cells(late), "-"])
    for name, one in data["metrics"].items():
        out = " / ".join(f"{100 * one['outside'][side]:.0f}%" for side in reversed(SIDES))
        rows.append([name.replace("|", "\\|"), *cells(one), out])
    header = ["", "official", "worldblocks", "p", "bins outside, ours / theirs"]
    clocks = [
        [name, *(f"{one[side]:.3g}" for side in SIDES), f"{one['ratio']:.2f}"]
        for name, one in data["times"].items()
    ]
    return "\n\n".join(
        [
            f"{TITLES[data['game']]}, {thousands(data['steps'])} environment steps, "
            f"{thousands(data['updates'])} updates. Seeds: {seeds}; no p is below "
            f"{data['smallest p']:.2g} with that many. "
            f"Episodes that end after step {half}: {counts}.",
            markdown(header, rows),
            markdown(["milliseconds", "official", "worldblocks", "ratio"], clocks),
        ]
    )


def cells(one: dict[str, Any]) -> list[str]:
    """Mean and range of both sides, and p."""
    sides = [[number(value) for value in one[side]] for side in SIDES]
    return [*(f"{mean} ({low} … {high})" for mean, low, high in sides), f"{one['p']:.2g}"]


def draw(data: dict[str, Any], path: Path) -> None:
    """Returns and metrics over a run: means, and the range of the seeds."""
    figure = extra("matplotlib.figure", "the picture of a comparison").Figure(
        (12, 8), dpi=80, layout="constrained"
    )
    extra("matplotlib.backends.backend_agg", "the picture").FigureCanvasAgg(figure)
    seeds = ", ".join(f"{len(data['seeds'][side])} {NAMES[side]}" for side in SIDES)
    title = f"{TITLES[data['game']]}: mean and range over the seeds ({seeds})"
    figure.suptitle(title, x=0.012, ha="left", weight="bold", color=DARK)
    charts = figure.subplots(3, 4).flatten()
    returns, edges = data["returns"], data["bins"]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    series = [("return of episodes", returns["step"], returns)]
    series += [(name, middles, data["metrics"][name]["curves"]) for name in DRAWN]
    for axes, (name, x, curves) in zip(charts, series, strict=True):
        style(axes, "")
        axes.set_title(name, color=DARK, fontsize=9, loc="left")
        for side, colour in zip(SIDES, (COLOURS[1], BLUE), strict=True):
            mean, low, high = curves[side]
            known = [i for i, value in enumerate(mean) if value is not None]
            at = [x[i] for i in known]
            axes.fill_between(
                at, [low[i] for i in known], [high[i] for i in known], color=colour, alpha=0.2, lw=0
            )
            axes.plot(at, [mean[i] for i in known], color=colour, lw=1.8, label=NAMES[side])
        if name in LOGARITHMIC:
            axes.set_yscale("log")
        axes.set_xlabel(
            "environment steps" if axes is charts[0] else "updates", color=DARK, fontsize=8
        )
        axes.tick_params(labelsize=8)
    charts[0].legend(loc="best", frameon=False, labelcolor=DARK, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
