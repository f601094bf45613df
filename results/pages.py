"""Figures and tables of what lies in `results`, for docs/results.md."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grounding
import multitask
import numpy as np
from entries import RESULT, Entry, seed_folder, unfinished
from words import markdown, number, spread, steps_text, thousands

import worldblocks as wb

AT = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000)  # rows of a table beside published scores


class Kept(NamedTuple):
    """What is kept of one seed."""

    folder: Path
    result: dict[str, Any]
    repeat: int
    steps: np.ndarray  # environment steps at the end of each training episode
    scores: np.ndarray

    def hit(self, threshold: float) -> float:
        """Environment steps to the first mean of ten episodes that reaches it; inf if none."""
        found = wb.run.first_hit(self.steps, self.scores, threshold)
        return math.inf if found is None else found

    def score_at(self, step: int) -> tuple[float, int] | None:
        """Mean of 100 episodes, and where: a peer's is its first evaluation from `step` on."""
        if "score" in self.result:
            return self.result["score"]["mean"], self.result["steps"]
        judged = [(e["mean"], e["step"] * self.repeat) for e in self.result["evaluations"]]
        return next((one for one in judged if one[1] >= 0.99 * step), None)


def collect(entry: Entry, results: Path) -> list[Kept]:
    """The finished seeds of an entry."""
    kept = []
    for folder in (seed_folder(entry, seed, results) for seed in entry.seeds):
        if (folder / RESULT).exists():
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            kept.append(Kept(folder, result, *episodes(folder)))
    return kept


def episodes(run: Path) -> tuple[int, np.ndarray, np.ndarray]:
    """Action repeat of a run; environment steps and score of its episodes."""
    repeat = wb.run.read_config(run).get("repeat", 1)
    lines = wb.run.read_jsonl(run / "episodes.jsonl")
    steps = np.array([line["step"] for line in lines], int) * repeat
    return repeat, steps, np.array([line["score"] for line in lines], float)


def first_hits(run: Path, thresholds: Iterable[float]) -> dict[str, int | None]:
    """Environment steps to each threshold, None where it was not reached."""
    _, steps, scores = episodes(run)
    return {f"{one:g}": wb.run.first_hit(steps, scores, one) for one in thresholds}


def line(result: dict[str, Any]) -> dict[str, Any]:
    """The facts of a result that `results.jsonl` repeats."""
    names = (
        "seed",
        "score",
        "success",
        "mode",
        "evaluations",
        "steps",
        "first_hit",
        "commit",
        "minutes",
    )
    return {name: result[name] for name in names if name in result}


def redraw(entries: Sequence[Entry], root: Path) -> None:
    """Write every figure and table anew."""
    for entry in entries:
        if entry.kind == "run" and not entry.group:
            draw(entry, entries, root)
    multitask.draw(entries, root)
    grounding.draw(entries, root)
    (root / "results" / "tables").mkdir(exist_ok=True)
    for name, text in texts(entries, root / "results").items():
        (root / "results" / "tables" / f"{name}.md").write_text(text, encoding="utf-8")


def texts(entries: Sequence[Entry], results: Path) -> dict[str, str]:
    """The files of `results/tables` by their name: one for each entry or group, and the queue."""
    pages = {"queue": markdown(*overview_rows(entries, results))}
    pages |= multitask.texts(entries, results)
    pages |= grounding.texts(entries, results)
    for entry in entries:
        if entry.group and entry.kind == "run":
            group = [one for one in entries if one.group == entry.group]
            pages[entry.group] = group_table(group, results)
        elif entry.kind == "run":
            pages[entry.name] = section(entry, entries, results)
    return {name: text + "\n" for name, text in pages.items()}


def draw(entry: Entry, entries: Sequence[Entry], root: Path) -> None:
    """The figure of an entry with a finished seed."""
    results = root / "results"
    if ours := collect(entry, results):
        others = {one.what: kept for one, kept in peers_of(entry, entries, results).items()}
        wb.run.plot_published(
            [kept.folder for kept in ours],
            root / "docs" / "results" / f"{entry.name}.png",
            published=curve_of(entry, results),
            others={name: [kept.folder for kept in group] for name, group in others.items()},
            parameters=ours[0].result["parameters"],
            title=entry.what,
        )


def peers_of(entry: Entry, entries: Sequence[Entry], results: Path) -> dict[Entry, list[Kept]]:
    """The finished seeds of what is compared with an entry."""
    found = {one: collect(one, results) for one in entries if one.beside == entry.name}
    return {one: kept for one, kept in found.items() if kept}


def curve_of(entry: Entry, results: Path) -> Any:
    """The published curve of an entry, if there is one."""
    if not entry.published:
        return None
    file, task = entry.published.split("/")
    return wb.run.read_published(results / "published" / f"{file}.json", task)


def section(entry: Entry, entries: Sequence[Entry], results: Path) -> str:
    """All there is to say of one entry."""
    ours, curve = collect(entry, results), curve_of(entry, results)
    if not ours:
        return f"{entry.what}: not run yet. {planned(entry)}"
    parts = [f"![{entry.what}: curves](results/{entry.name}.png)", seeds_table(entry, ours)]
    if curve:
        parts.append(published_table(entry, ours, curve))
    if peers := peers_of(entry, entries, results):
        parts.append(peers_table(entry, ours, peers))
    return "\n\n".join([*parts, source(ours[0].result), *pending(entry, ours)])


def seeds_table(entry: Entry, ours: list[Kept]) -> str:
    """A row for each seed, then minimum – median – maximum."""
    names = [f"steps to {one:g}" for one in entry.thresholds]
    header = ["seed", "score", *(["likeliest actions"] if entry.mode else []), *names, "minutes"]
    rows, columns = [], []
    for kept in ours:
        values = [kept.result[key]["mean"] for key in ("score", "mode") if key in kept.result]
        hits = [kept.hit(one) for one in entry.thresholds]
        columns.append([*values, *hits, kept.result["minutes"]])
        cells = [*map(number, values), *(steps_text(hit, entry.steps) for hit in hits)]
        rows.append([str(kept.result["seed"]), *cells, number(kept.result["minutes"])])
    if len(ours) > 1:
        every = [spread(own, entry.steps) for own in zip(*columns, strict=True)]
        rows.append(["min – median – max", *every])
    return markdown(header, rows)


def published_table(entry: Entry, ours: list[Kept], curve: Any) -> str:
    """Training scores in the published bins, every seed."""
    header = ["environment steps", "published", *(f"seed {kept.result['seed']}" for kept in ours)]
    rows = []
    for at in [at for at in AT if at <= entry.steps]:
        place = int(np.flatnonzero(curve.steps == at)[0])
        mean, std, seeds = (column[place] for column in (curve.mean, curve.std, curve.seeds))
        rows.append([thousands(at), f"{number(mean)} ± {number(std)} ({seeds:.0f} seeds)"])
        for kept in ours:
            edges, means = wb.run.binned_scores(kept.steps, kept.scores, curve.width, until=at)
            rows[-1].append(number(means[edges == at][0]) if (edges == at).any() else "–")
    return markdown(header, rows) + f"\n\nPublished: {curve.source}."


def peers_table(entry: Entry, ours: list[Kept], peers: dict[Entry, list[Kept]]) -> str:
    """Score at our budget, and how many times our steps others need."""
    goals = [(one, f"steps to {one:g}") for one in entry.thresholds]
    header = ["agent", "seeds", f"score at {thousands(entry.steps)} steps"]
    for _, name in goals:
        header += [name, "× ours"]
    own = {one: statistics.median(kept.hit(one) for kept in ours) for one, _ in goals}
    rows = []
    for name, group in [("worldblocks", ours), *((e.what, kept) for e, kept in peers.items())]:
        found = [one for kept in group if (one := kept.score_at(entry.steps))]
        row = [name, str(len(group)), spread([score for score, _ in found]) if found else "–"]
        if found and found[0][1] > 1.01 * entry.steps:
            row[-1] += f" (at {thousands(found[0][1])})"
        for one, _ in goals:
            row += hits_cells(group, one, own[one])
        rows.append(row)
    return markdown(header, rows)


def hits_cells(group: list[Kept], threshold: float, ours: float) -> list[str]:
    """Steps of every seed to a score, and their median in multiples of ours."""
    ends = [kept.result["steps"] * (1 if "score" in kept.result else kept.repeat) for kept in group]
    hits = [kept.hit(threshold) for kept in group]
    # A seed that was not there at its end needs more than that: the median is then a lower bound.
    middle = statistics.median(min(hit, end) for hit, end in zip(hits, ends, strict=True))
    more = "" if math.isfinite(statistics.median(hits)) else "> "
    ratio = f"{more}{middle / ours:.2g}" if math.isfinite(ours) else "–"
    return [" / ".join(steps_text(hit, end) for hit, end in zip(hits, ends, strict=True)), ratio]


def group_table(entries: Sequence[Entry], results: Path) -> str:
    """One row for each entry of a group: an experiment with several settings."""
    threshold = entries[0].thresholds[0] / entries[0].scale
    header = ["setting", "seeds", "score", f"steps to {threshold:g}"]
    rows = []
    for entry in entries:
        kept = collect(entry, results)
        count = f"{len(kept)} of {len(entry.seeds)}"
        scores = [number(one.result["score"]["mean"] / entry.scale) for one in kept]
        hits = [steps_text(one.hit(threshold * entry.scale), entry.steps) for one in kept]
        rows.append([entry.what, count, " / ".join(scores) or "–", " / ".join(hits) or "–"])
    first = [kept.result for entry in entries for kept in collect(entry, results)][:1]
    return "\n\n".join([markdown(header, rows), *map(source, first)])


def overview(entries: Sequence[Entry], results: Path) -> str:
    """The queue as aligned text."""
    header, rows = overview_rows(entries, results)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in [header, *rows]]
    return "\n".join(text.rstrip() for text in lines)


def overview_rows(entries: Sequence[Entry], results: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the queue; a seed of it that has begun and not ended is in them."""
    state = {}
    for event in wb.run.read_jsonl(results / "results.jsonl"):
        state[event["name"], event["seed"]] = event["event"]
    rows = []
    for entry in entries:
        open_ends = [
            f"seed {seed} {state[entry.name, seed]}"
            for seed in entry.seeds
            if state.get((entry.name, seed), "finished") != "finished"
        ]
        done = f"{len(entry.seeds) - len(unfinished(entry, results))} of {len(entry.seeds)}"
        budget = [thousands(entry.steps), number(entry.minutes)]
        done = ", ".join([done, *open_ends])
        rows.append([entry.name, entry.what, str(entry.tier), entry.hardware, *budget, done])
    header = ["entry", "what", "tier", "needs", "environment steps", "minutes a seed", "seeds done"]
    return header, rows


def pending(entry: Entry, ours: list[Kept]) -> list[str]:
    """A sentence on what is missing."""
    missing = len(entry.seeds) - len(ours)
    return [f"{len(ours)} of {len(entry.seeds)} seeds are finished."] if missing else []


def planned(entry: Entry) -> str:
    """What an entry will do."""
    seeds = " ".join(map(str, entry.seeds))
    return (
        f"In the queue: `python {entry.command}`, seeds {seeds}, {thousands(entry.steps)} "
        f"environment steps, about {number(entry.minutes)} minutes each on a {entry.hardware}."
    )


def source(result: dict[str, Any]) -> str:
    """Where the figures of a result are from."""
    commit = f"commit {result['commit']}" + (" with changes" if result["changed"] else "")
    where = f"{result['machine']}; torch {result['versions']['torch']}; {result['date']}"
    return f"`{result['command']}`; {commit}; {where}."
