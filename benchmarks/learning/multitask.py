"""Tables and pictures of several tasks on one world model, for docs/multitask.md.

The interval of a score comes from a two-level bootstrap, which resamples the seeds and then the
episodes of each. With two seeds it says little about other seeds.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.learning.entries import Entry, records, run_folder
from benchmarks.learning.words import markdown, number, steps_text, thousands

RESAMPLES = 4000
SHARE = 0.8  # a new task counts as learned from this share of the single-task score
KIND = "tasks"
SHOWN = ("multitask_shared", "multitask_atari_cpu")  # entries with a picture on the page
PASSED = {True: "PASS", False: "FAIL"}


def texts(entries: Sequence[Entry], root: Path) -> dict[str, str]:
    """The tables by name: one for each group of runs or adaptations."""
    found: dict[str, str] = {}
    for entry in entries:
        if entry.kind in (KIND, "adapt"):
            group = [one for one in entries if one.group == entry.group and one.kind == entry.kind]
            make = compared if entry.kind == KIND else adapted
            found[entry.group] = make(group, entries, root)
    return found


def copy_picture(entry: Entry, seed: int, root: Path) -> None:
    """Copy the picture of the first seed to the docs."""
    picture = run_folder(entry, seed, root) / "tasks.png"
    if entry.name in SHOWN and seed == entry.seeds[0] and picture.exists():
        with Image.open(picture) as image:  # 256 colours: a third of the bytes
            page = root / "docs" / "results" / f"{entry.name}.png"
            image.convert("RGB").quantize(256).save(page, optimize=True)


def results(run: Path) -> dict[str, Any]:
    """Scores by task, and the reports on the world model if the run wrote them."""
    scores = {"tasks": json.loads((run / "scores.json").read_text(encoding="utf-8"))}
    reports = sorted(run.glob("*/report.json"))
    found = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in reports}
    return {**scores, "reports": found} if found else scores


def scores_of(entry: Entry, root: Path, task: str, policy: str = "trained") -> list[list[float]]:
    """Episode scores of a task, a list for each finished seed."""
    return [r["tasks"][task][policy]["scores"] for r in records(entry, root) if task in r["tasks"]]


def interval(seeds: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, float]:
    """The mean over seeds of their mean score, and its 95% interval."""
    means = resampled(seeds, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([np.mean(own) for own in seeds])), float(low), float(high)


def resampled(seeds: Sequence[Sequence[float]], seed: int) -> np.ndarray:
    """Bootstrap means: seeds are resampled, and the episodes of each."""
    random = np.random.default_rng(seed)
    columns = []
    for own in map(np.asarray, seeds):
        picks = random.integers(len(own), size=(RESAMPLES, len(own)))
        columns.append(own[picks].mean(1))
    every, chosen = np.stack(columns, 1), random.integers(len(seeds), size=(RESAMPLES, len(seeds)))
    return np.take_along_axis(every, chosen, 1).mean(1)


def compared(group: Sequence[Entry], entries: Sequence[Entry], root: Path) -> str:
    """A row for each run and for a random policy, a column for each task."""
    tasks = list(dict.fromkeys(t for one in group for r in records(one, root) for t in r["tasks"]))
    if not tasks:
        return f"Not run yet. {planned(group)}"
    header = ["models", "seeds", *tasks, "parameters", "updates a model", "minutes a seed"]
    rows = []
    for entry in group:
        done = records(entry, root)
        count = f"{len(done)} of {len(entry.seeds)}"
        cells = [cell(scores_of(entry, root, task)) for task in tasks]
        numbers = ["–"] * 3
        if done:
            minutes = float(np.mean([one["minutes"] for one in done]))
            numbers = [*(thousands(done[0][key]) for key in ("parameters", "updates"))]
            numbers.append(number(minutes))
        rows.append([entry.what, count, *cells, *numbers])
    statistics = {"mean": np.mean, "95th percentile": lambda scores: np.percentile(scores, 95)}
    for words, statistic in statistics.items():
        every = [[scores_of(e, root, t, "random") for e in group] for t in tasks]
        known = [[own for seeds in runs for own in seeds][:1] for runs in every]
        cells = [number(float(statistic(own[0]))) if own else "–" for own in known]
        count = max(len(own[0]) for own in known if own)
        rows.append([f"a random policy: {words} of {count} episodes", "", *cells, "", "", ""])
    parts = [markdown(header, rows), *reported(group, root), *differences(group, tasks, root)]
    commands = [f"`python {entry.command} --seed N`" for entry in group]
    return "\n\n".join([*parts, "Commands, in the order of the rows: " + "; ".join(commands) + "."])


def reported(group: Sequence[Entry], root: Path) -> list[str]:
    """The reports on the world model: a row for each line that passes or fails."""
    rows = [
        [task, str(result["seed"]), line["name"], PASSED[line["passed"]], line["detail"]]
        for entry in group
        for result in records(entry, root)
        for task, lines in result.get("reports", {}).items()
        for line in lines
        if line["passed"] is not None
    ]
    return [markdown(["world model on", "seed", "line", "", "figures"], rows)] if rows else []


def cell(seeds: Sequence[Sequence[float]]) -> str:
    """The mean with its interval, and the mean of each seed."""
    if not seeds:
        return "–"
    mean, low, high = interval(seeds)
    each = ", ".join(number(float(np.mean(own))) for own in seeds)
    return f"{number(mean)} [{number(low)}, {number(high)}] ({each})"


def differences(group: Sequence[Entry], tasks: Sequence[str], root: Path) -> list[str]:
    """The first run minus each other one, with the interval of the difference."""
    lines = []
    for task in tasks:
        ours = scores_of(group[0], root, task)
        for other in group[1:]:
            theirs = scores_of(other, root, task)
            if ours and theirs:
                gaps = resampled(ours, 0) - resampled(theirs, 1)
                low, high = np.percentile(gaps, [2.5, 97.5])
                gap = interval(ours)[0] - interval(theirs)[0]
                sure = "the interval includes 0" if low <= 0 <= high else "the interval excludes 0"
                lines.append(
                    f"- {task}: {group[0].what} minus {other.what} {number(gap)} "
                    f"[{number(float(low))}, {number(float(high))}]: {sure}"
                )
    return ["\n".join(lines)] if lines else []


def adapted(group: Sequence[Entry], entries: Sequence[Entry], root: Path) -> str:
    """Scores at each mark, and steps to a share of the single-task score."""
    done = {entry: records(entry, root) for entry in group}
    marks = sorted({e["step"] for own in done.values() for r in own for e in r["evaluations"]})
    if not marks:
        return f"Not run yet. {planned(group)}"
    goal = single_task_score(group[0], entries, root)
    header = ["world model", "seeds", *(thousands(mark) for mark in marks)]
    header.append(f"steps to {number(SHARE * goal)}" if goal else "steps")
    rows = []
    for entry, own in done.items():
        count = f"{len(own)} of {len(entry.seeds)}"
        cells = [
            cell([e["scores"] for r in own for e in r["evaluations"] if e["step"] == mark])
            for mark in marks
        ]
        rows.append([entry.what, count, *cells, " / ".join(hit(r, goal) for r in own) or "–"])
    return "\n\n".join([markdown(header, rows), *ratios(done, goal)])


def hit(result: dict[str, Any], goal: float) -> str:
    """The first mark at which the goal was reached, as text."""
    return steps_text(first(result, goal), result["steps"]) if goal else "–"


def first(result: dict[str, Any], goal: float) -> float:
    """The first mark at which the goal was reached; inf if it was not."""
    there = [e["step"] for e in result["evaluations"] if e["mean"] >= SHARE * goal]
    return min(there, default=float("inf"))


def ratios(done: dict[Entry, list[dict[str, Any]]], goal: float) -> list[str]:
    """The median steps of each entry, as a multiple of those from scratch."""
    if not goal:
        return ["No run was trained on the task alone, so there is no reference score."]
    middle = {entry: np.median([first(r, goal) for r in own]) for entry, own in done.items() if own}
    scratch = [steps for entry, steps in middle.items() if "--world fresh" in entry.command]
    if not scratch or not np.isfinite(scratch[0]) or not scratch[0]:
        return ["Training from scratch did not reach the goal, so there is no ratio."]
    lines = [f"- {entry.what}: {steps / scratch[0]:.2g}" for entry, steps in middle.items()]
    words = f"Steps to {SHARE:.0%} of the single-task score, as a multiple of those from scratch:"
    return [words + "\n\n" + "\n".join(lines)]


def single_task_score(entry: Entry, entries: Sequence[Entry], root: Path) -> float:
    """The mean of the runs that were trained on the task alone; 0 if there are none."""
    task = entry.words[entry.words.index("--task") + 1]
    base = next(e for e in entries if e.name == entry.base)
    preset = base.words[: base.words.index("--tasks")] if "--tasks" in base.words else base.words
    alone = [e for e in entries if e.kind == KIND and e.words == [*preset, "--tasks", task]]
    seeds = [own for one in alone for own in scores_of(one, root, task)]
    return float(np.mean([np.mean(own) for own in seeds])) if seeds else 0.0


def planned(group: Sequence[Entry]) -> str:
    """The commands of a group that has not run."""
    commands = "; ".join(f"`python {entry.command}`" for entry in group)
    return f"In the queue: {commands}."
