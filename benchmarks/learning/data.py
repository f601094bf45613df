"""The records of finished seeds in docs/results/data: results, and a curve of about 200 points."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import worldblocks as wb
from benchmarks.learning.entries import Entry, data_path, read_data

POINTS = 200
OUTCOMES = 50  # episodes in a mean success
LAST = 100  # last training episodes
FACTS = ("name", "seed", "command", "commit", "changed", "versions", "machine", "date", "minutes")
FACTS += ("parameters", "steps", "policy", "score", "mode", "success", "evaluations")
FACTS += ("tasks", "reports", "sentences")
Curve = dict[str, list[float]]


def keep(
    entry: Entry, run: Path, result: dict[str, Any], root: Path, thresholds: Iterable[float] = ()
) -> None:
    """Add the record of one finished seed to the results of its entry.

    Args:
        entry: What was run.
        run: Its folder.
        result: Its results; the `FACTS` among them are stored.
        root: The root of the repository.
        thresholds: Scores whose first hit is recorded, in environment steps.
    """
    facts = {name: result[name] for name in FACTS if name in result}
    if entry.kind in ("run", "peer"):
        facts |= _scores(wb.evaluate.read_episodes(run), thresholds)
    if entry.kind == "peer":  # its steps are actions
        repeat = facts["repeat"]
        facts["steps"] *= repeat
        facts["evaluations"] = [e | {"step": e["step"] * repeat} for e in facts["evaluations"]]
    if entry.kind == "tasks":
        facts |= _tasks(run)
    if entry.kind == "glam":
        facts |= _outcomes(run)
    add_record(data_path(entry, root), _short(facts))


def add_record(path: Path, record: dict[str, Any]) -> None:
    """Add a record to a file of results, or replace that of the same seed.

    A lock orders seeds that end at once, in threads or processes. The file is replaced as a whole.
    """
    import fcntl  # not on Windows, where results can only be read

    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # until it is closed
        others = [one for one in read_data(path) if one["seed"] != record["seed"]]
        ordered = sorted([*others, record], key=lambda one: one["seed"])
        draft = path.with_suffix(".part")
        draft.write_text("[\n" + ",\n".join(map(_text, ordered)) + "\n]\n", encoding="utf-8")
        os.replace(draft, path)
    finally:
        os.close(folder)


def _text(record: dict[str, Any]) -> str:
    """A record with one fact per line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in record.items()]
    return "{\n" + ",\n".join(lines) + "\n}"


def thinned(steps: np.ndarray, scores: np.ndarray) -> Curve:
    """At most 200 points, each the mean score of the episodes since the previous point.

    >>> thinned(np.arange(1, 401), np.arange(400.0))["score"][:2]
    [0.5, 2.5]
    """
    if not len(steps):
        return {"step": [], "score": []}
    edges = np.linspace(0, len(steps), min(len(steps), POINTS) + 1).round().astype(int)
    means = np.add.reduceat(scores, edges[:-1]) / np.diff(edges)
    return {"step": steps[edges[1:] - 1].tolist(), "score": means.tolist()}


def successes(steps: np.ndarray, success: np.ndarray) -> Curve:
    """Mean success of the last 50 episodes, at 200 points and at every new maximum.

    The maxima make the first step at which a threshold is reached exact.
    """
    means = wb.run.running_mean(success, OUTCOMES)[OUTCOMES - 1 :]
    before = np.maximum.accumulate(np.concatenate([[-1.0], means]))[:-1]
    spread = np.linspace(0, len(means) - 1, min(len(means), POINTS)).round().astype(int)
    chosen = np.union1d(spread, np.flatnonzero(means > before))
    return {"step": steps[OUTCOMES - 1 :][chosen].tolist(), "success": means[chosen].tolist()}


def _scores(run: wb.evaluate.Episodes, thresholds: Iterable[float]) -> dict[str, Any]:
    hits = {f"{one:g}": wb.evaluate.first_hit(run.steps, run.scores, one) for one in thresholds}
    facts = {"repeat": run.repeat, "train_ratio": run.train_ratio, "first_hit": hits}
    return facts | {"curve": thinned(run.steps, run.scores)}


def _tasks(run: Path) -> dict[str, Any]:
    """Updates of the model, and a curve for each task."""
    lines = wb.run.read_jsonl(run / "episodes.jsonl")
    repeat = wb.run.read_config(run).get("repeat", 1)
    curves = {}
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task]
        steps = np.array([line["step"] * repeat for line in own])
        curves[task] = thinned(steps, np.array([line["score"] for line in own]))
    updates = wb.run.read_jsonl(run / "metrics.jsonl")[-1]["updates"]
    return {"updates": int(updates), "curve": curves}


def _outcomes(run: Path) -> dict[str, Any]:
    lines = wb.run.read_jsonl(run / "episodes.jsonl")
    steps = np.array([line["step"] for line in lines])
    success = np.array([line["success"] for line in lines], float)
    last = float(success[-LAST:].mean())
    return {f"success_last_{LAST}": last, "curve": successes(steps, success)}


def _short(value: Any) -> Any:
    """With floats rounded to six digits."""
    if isinstance(value, dict):
        return {key: _short(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_short(own) for own in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
