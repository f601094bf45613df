"""Tables and figures of GLAM for docs/language.md: success by reward, and unseen sentences.

Success is the environment's own, whatever reward the policy learned from.
"""

import math
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.data import LAST, OUTCOMES
from benchmarks.learning.entries import Entry, records, run_folder
from benchmarks.learning.words import markdown, number, steps_text
from worldblocks.run.curve import COLOURS, DARK, say, style
from worldblocks.run.extras import extra

SHARE = 0.8  # a reward counts as good from this share of the oracle's success
SHOWN = ("glam_llm", "glam_uniform")  # entries whose posterior is shown on the page
GLAM, INSTRUCT = "glam", "instruct"


def texts(entries: Sequence[Entry], root: Path) -> dict[str, str]:
    """The tables by name: one for each group of runs, one for each entry with sentences."""
    found: dict[str, str] = {}
    for entry in entries:
        group = [one for one in entries if (one.group, one.kind) == (entry.group, entry.kind)]
        if entry.kind == GLAM:
            found[entry.group] = compared(group, root)
        elif entry.kind == INSTRUCT:
            found[entry.name] = spoken(entry, root)
    return found


def hit(one: dict[str, Any], threshold: float) -> float:
    """The first step at which the mean of 50 outcomes reaches it; inf if there is none."""
    there = np.flatnonzero(np.array(one["curve"]["success"]) >= threshold)
    return one["curve"]["step"][there[0]] if len(there) else math.inf


def compared(group: Sequence[Entry], root: Path) -> str:
    """A row for each reward: success, and steps to a share of the oracle's success."""
    done = {entry: records(entry, root) for entry in group}
    commands = "; ".join(f"`python {entry.command} --seed N`" for entry in group)
    if not any(done.values()):
        return f"Not run yet. In the queue: {commands}."
    goal = threshold(done)
    words = f"steps to {number(goal)}" if goal else "steps"
    header = ["reward", "seeds", f"last {LAST} episodes", "judged", words, "minutes a seed"]
    rows = []
    for entry, own in done.items():
        cells = ["–"] * 4
        if own:
            hits = [steps_text(hit(one, goal), entry.steps) if goal else "–" for one in own]
            judged = [number(one["success"]) for one in own]
            minutes = number(statistics.fmean(one["minutes"] for one in own))
            last = ", ".join(number(one[f"success_last_{LAST}"]) for one in own)
            cells = [last, ", ".join(judged), ", ".join(hits), minutes]
        rows.append([entry.what, f"{len(own)} of {len(entry.seeds)}", *cells])
    shown = [f"![Success by reward](results/{group[0].group}.png)", markdown(header, rows)]
    return "\n\n".join([*shown, f"Commands, in the order of the rows: {commands}."])


def threshold(done: dict[Entry, list[dict[str, Any]]]) -> float:
    """A share of the oracle's success in evaluation; 0 if it has not been run."""
    oracle = [
        one for entry, own in done.items() if "--reward oracle" in entry.command for one in own
    ]
    return SHARE * statistics.fmean(o["success"] for o in oracle) if oracle else 0.0


def spoken(entry: Entry, root: Path) -> str:
    """A row for each sentence: scores of its policy, of an oracle's and of a random one."""
    found = records(entry, root)
    if not found:
        return f"Not run yet. In the queue: `python {entry.command}`."
    header = ["sentence", "meant", "chosen", "its policy", "random, 95th percentile"]
    header += ["oracle's policy", "best head of the run"]
    rows = []
    for each in zip(*(one["sentences"] for one in found), strict=True):
        names = ("policy", "random_95", "oracle", "best_head_score")
        cells = [", ".join(number(one[name]) for one in each) for name in names]
        chosen = ", ".join(dict.fromkeys(one["chosen"] for one in each))
        rows.append([each[0]["instruction"], each[0]["meant"], chosen, *cells])
    lines = []
    for one in found:
        passed = sum(row["ok"] for row in one["sentences"])
        whole = sum(row["oracle"] > row["random_95"] for row in one["sentences"])
        lines.append(
            f"- seed {one['seed']}: {passed} of {len(one['sentences'])} sentences above the 95th "
            f"percentile of a random policy; {whole} with the phrase that was meant"
        )
    where = f"`python -m benchmarks.learning --only {entry.name}`: "
    where += f"`python {entry.command} --seed N`, `{{run}}` the folder of that seed of "
    where += f"`{entry.base}`; a number for each of {len(found)} of {len(entry.seeds)} seeds."
    return "\n\n".join([markdown(header, rows), "\n".join(lines), where])


def draw(entries: Sequence[Entry], root: Path) -> None:
    """Plot success over steps, with a colour for each reward and a line for each seed."""
    for name in dict.fromkeys(entry.group for entry in entries if entry.kind == GLAM):
        group = [entry for entry in entries if (entry.group, entry.kind) == (name, GLAM)]
        done = {entry: records(entry, root) for entry in group}
        if any(done.values()):
            _plot(done, threshold(done), root / "docs" / "results" / f"{name}.png")


def copy_picture(entry: Entry, seed: int, root: Path) -> None:
    """Copy the picture of the posterior of the last seed to the docs."""
    picture = run_folder(entry, seed, root) / "belief.png"
    if entry.name in SHOWN and seed == entry.seeds[-1] and picture.exists():
        shutil.copyfile(picture, root / "docs" / "results" / f"{entry.name}.png")


def _plot(done: dict[Entry, list[dict[str, Any]]], goal: float, path: Path) -> None:
    """A small chart for each reward, all on the same axes."""
    columns, rows = 4, math.ceil(len(done) / 4)
    figure = extra("matplotlib.figure", "the figure of GLAM").Figure(
        (10, 2.6 * rows), dpi=80, layout="constrained"
    )
    extra("matplotlib.backends.backend_agg", "the figure of GLAM").FigureCanvasAgg(figure)
    charts = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (entry, own) in zip(charts, done.items(), strict=False):
        style(axes, "")
        axes.set_title(entry.what, color=DARK, fontsize=9, loc="left")
        for one, colour in zip(own, COLOURS, strict=False):
            axes.plot(one["curve"]["step"], one["curve"]["success"], lw=1.5, color=colour)
        if goal:
            axes.axhline(goal, color=DARK, lw=0.8, ls=":")
        if not own:
            say(axes, "not run yet")
        axes.set_ylim(0, 1.03)
        axes.set_xlim(left=0)
    for axes in charts[len(done) :]:
        axes.set_axis_off()
    figure.supxlabel("actions", color=DARK, fontsize=10)
    figure.supylabel(f"success, mean of {OUTCOMES} episodes", color=DARK, fontsize=10)
    figure.savefig(path)
