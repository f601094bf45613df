"""Figures and tables drawn from docs/results/data, for docs/results.md."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import worldblocks as wb
from benchmarks.learning import grounding, multitask
from benchmarks.learning.entries import Entry, note_path, records, unfinished
from benchmarks.learning.words import markdown, number, spread, steps_text, thousands

TABLES = "docs/results/tables.md"
AT = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000)  # rows of a table of published scores


class Seed(NamedTuple):
    """One finished seed: its record, and its curve in the form that figures take."""

    result: dict[str, Any]
    episodes: wb.evaluate.Episodes

    def hit(self, threshold: float) -> float:
        """Environment steps until the mean of ten episodes reaches it; inf if it never does."""
        found = self.result["first_hit"][f"{threshold:g}"]
        return math.inf if found is None else found

    def score_at(self, step: int) -> tuple[float, int] | None:
        """Mean of 100 episodes and its step: of a peer, the first evaluation at `step` or later."""
        if "score" in self.result:
            return self.result["score"]["mean"], self.result["steps"]
        judged = [(e["mean"], e["step"]) for e in self.result["evaluations"]]
        return next((one for one in judged if one[1] >= 0.99 * step), None)


def collect(entry: Entry, root: Path) -> list[Seed]:
    """The finished seeds of an entry."""
    found = []
    for one in records(entry, root):
        steps, scores = (np.array(one["curve"][key]) for key in ("step", "score"))
        name, repeat, ratio = (one[key] for key in ("name", "repeat", "train_ratio"))
        found.append(Seed(one, wb.evaluate.Episodes(name, steps, scores, repeat, ratio)))
    return found


def redraw(entries: Sequence[Entry], root: Path) -> None:
    """Write every figure and table again."""
    for entry in entries:
        if entry.kind == "run" and not entry.group:
            draw(entry, entries, root)
    grounding.draw(entries, root)
    (root / TABLES).parent.mkdir(parents=True, exist_ok=True)
    (root / TABLES).write_text(tables(entries, root), encoding="utf-8")


def tables(entries: Sequence[Entry], root: Path) -> str:
    """The file of all tables. Each is a section, which a page includes by name."""
    parts = ["# Tables", "Written by `python -m benchmarks.learning --redraw`."]
    for name, text in texts(entries, root).items():
        section = f"<!-- --8<-- [start:{name}] -->\n{text}\n<!-- --8<-- [end:{name}] -->"
        parts += [f"## {name}", section]
    return "\n\n".join(parts) + "\n"


def texts(entries: Sequence[Entry], root: Path) -> dict[str, str]:
    """The tables by name: one for each entry or group, and the queue."""
    pages = {"queue": markdown(*overview_rows(entries, root))}
    pages |= multitask.texts(entries, root)
    pages |= grounding.texts(entries, root)
    for entry in entries:
        if entry.group and entry.kind == "run":
            group = [one for one in entries if one.group == entry.group]
            pages[entry.group] = group_table(group, root)
        elif entry.kind == "run":
            pages[entry.name] = section(entry, entries, root)
    return pages


def draw(entry: Entry, entries: Sequence[Entry], root: Path) -> None:
    """The figure of an entry with a finished seed."""
    if ours := collect(entry, root):
        others = peers_of(entry, entries, root)
        wb.evaluate.plot_published(
            [seed.episodes for seed in ours],
            root / "docs" / "results" / f"{entry.name}.png",
            published=curve_of(entry, root),
            others={one.what: [seed.episodes for seed in group] for one, group in others.items()},
            parameters=ours[0].result["parameters"],
            title=entry.what,
        )


def peers_of(entry: Entry, entries: Sequence[Entry], root: Path) -> dict[Entry, list[Seed]]:
    """The finished seeds of the baselines of an entry."""
    found = {one: collect(one, root) for one in entries if one.baseline_of == entry.name}
    return {one: seeds for one, seeds in found.items() if seeds}


def curve_of(entry: Entry, root: Path) -> Any:
    """The published curve of an entry, if there is one."""
    if not entry.published:
        return None
    file, task = entry.published.split("/")
    return wb.evaluate.read_published(
        root / "docs" / "results" / "published" / f"{file}.json", task
    )


def section(entry: Entry, entries: Sequence[Entry], root: Path) -> str:
    """The figure, the tables and the source of one entry."""
    ours, curve = collect(entry, root), curve_of(entry, root)
    if not ours:
        return f"{entry.what}: not run yet. {planned(entry)}"
    parts = [f"![{entry.what}: curves](results/{entry.name}.png)", seeds_table(entry, ours)]
    if curve:
        parts.append(published_table(entry, ours, curve))
    if peers := peers_of(entry, entries, root):
        parts.append(peers_table(entry, ours, peers))
    parts.append(source(ours[0].result))
    if len(ours) < len(entry.seeds):
        parts.append(f"{len(ours)} of {len(entry.seeds)} seeds are finished.")
    return "\n\n".join(parts)


def seeds_table(entry: Entry, ours: list[Seed]) -> str:
    """A row for each seed, then minimum – median – maximum."""
    names = [f"steps to {one:g}" for one in entry.thresholds]
    header = ["seed", "score", *(["mode"] if entry.mode else []), *names, "minutes"]
    rows, columns = [], []
    for seed in ours:
        values = [seed.result[key]["mean"] for key in ("score", "mode") if key in seed.result]
        hits = [seed.hit(one) for one in entry.thresholds]
        columns.append([*values, *hits, seed.result["minutes"]])
        cells = [*map(number, values), *(steps_text(hit, entry.steps) for hit in hits)]
        rows.append([str(seed.result["seed"]), *cells, number(seed.result["minutes"])])
    if len(ours) > 1:
        every = [spread(own, entry.steps) for own in zip(*columns, strict=True)]
        rows.append(["min – median – max", *every])
    return markdown(header, rows)


def published_table(entry: Entry, ours: list[Seed], curve: Any) -> str:
    """Training scores of every seed in the published bins."""
    header = ["environment steps", "published", *(f"seed {seed.result['seed']}" for seed in ours)]
    rows = []
    for at in [at for at in AT if at <= entry.steps]:
        place = int(np.flatnonzero(curve.steps == at)[0])
        mean, std, seeds = (column[place] for column in (curve.mean, curve.std, curve.seeds))
        rows.append([thousands(at), f"{number(mean)} ± {number(std)} ({seeds:.0f} seeds)"])
        for seed in ours:
            own = seed.episodes
            edges, means = wb.evaluate.binned_scores(own.steps, own.scores, curve.width, until=at)
            rows[-1].append(number(means[edges == at][0]) if (edges == at).any() else "–")
    return markdown(header, rows) + f"\n\nPublished: {curve.source}."


def peers_table(entry: Entry, ours: list[Seed], peers: dict[Entry, list[Seed]]) -> str:
    """Scores at our budget, and the steps of each agent as a multiple of ours."""
    goals = [(one, f"steps to {one:g}") for one in entry.thresholds]
    header = ["agent", "seeds", f"score at {thousands(entry.steps)} steps"]
    for _, name in goals:
        header += [name, "× ours"]
    own = {one: statistics.median(seed.hit(one) for seed in ours) for one, _ in goals}
    rows = []
    for name, group in [("worldblocks", ours), *((e.what, seeds) for e, seeds in peers.items())]:
        found = [one for seed in group if (one := seed.score_at(entry.steps))]
        row = [name, str(len(group)), spread([score for score, _ in found]) if found else "–"]
        if found and found[0][1] > 1.01 * entry.steps:
            row[-1] += f" (at {thousands(found[0][1])})"
        for one, _ in goals:
            row += hits_cells(group, one, own[one])
        rows.append(row)
    return markdown(header, rows)


def hits_cells(group: list[Seed], threshold: float, ours: float) -> list[str]:
    """Steps of every seed to a score, and their median as a multiple of ours."""
    ends = [seed.result["steps"] for seed in group]
    hits = [seed.hit(threshold) for seed in group]
    # A seed that never reached the score counts with its budget: the median is a lower bound.
    middle = statistics.median(min(hit, end) for hit, end in zip(hits, ends, strict=True))
    more = "" if math.isfinite(statistics.median(hits)) else "> "
    ratio = f"{more}{middle / ours:.2g}" if math.isfinite(ours) else "–"
    return [" / ".join(steps_text(hit, end) for hit, end in zip(hits, ends, strict=True)), ratio]


def group_table(entries: Sequence[Entry], root: Path) -> str:
    """One row for each entry of a group, which is an experiment with several settings."""
    threshold = entries[0].thresholds[0] / entries[0].scale
    header = ["setting", "seeds", "score", f"steps to {threshold:g}"]
    rows = []
    for entry in entries:
        seeds = collect(entry, root)
        count = f"{len(seeds)} of {len(entry.seeds)}"
        scores = [number(one.result["score"]["mean"] / entry.scale) for one in seeds]
        hits = [steps_text(one.hit(entry.thresholds[0]), entry.steps) for one in seeds]
        rows.append([entry.what, count, " / ".join(scores) or "–", " / ".join(hits) or "–"])
    first = [seed.result for entry in entries for seed in collect(entry, root)][:1]
    return "\n\n".join([markdown(header, rows), *map(source, first)])


def overview(entries: Sequence[Entry], root: Path) -> str:
    """The queue as aligned text, with the seeds that have started and not finished."""
    header, rows = overview_rows(entries, root)
    for entry, row in zip(entries, rows, strict=True):
        row[-1] = ", ".join([row[-1], *begun(entry, root)])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in [header, *rows]]
    return "\n".join(text.rstrip() for text in lines)


def begun(entry: Entry, root: Path) -> list[str]:
    """The seeds that have started and not finished."""
    found = []
    for seed in unfinished(entry, root):
        if (path := note_path(entry, seed, root)).exists():
            failed = json.loads(path.read_text(encoding="utf-8")).get("code")
            found.append(f"seed {seed} {'failed' if failed else 'started'}")
    return found


def overview_rows(entries: Sequence[Entry], root: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the queue."""
    rows = []
    for entry in entries:
        done = f"{len(entry.seeds) - len(unfinished(entry, root))} of {len(entry.seeds)}"
        budget = [thousands(entry.steps), number(entry.minutes)]
        rows.append([entry.name, entry.what, str(entry.tier), entry.hardware, *budget, done])
    header = ["entry", "what", "tier", "needs", "environment steps", "minutes a seed", "seeds done"]
    return header, rows


def planned(entry: Entry) -> str:
    """The command, seeds and budget of an entry that has not run."""
    seeds = " ".join(map(str, entry.seeds))
    return (
        f"In the queue: `python {entry.command}`, seeds {seeds}, {thousands(entry.steps)} "
        f"environment steps, about {number(entry.minutes)} minutes each on a {entry.hardware}."
    )


def source(result: dict[str, Any]) -> str:
    """Command, commit, machine, torch version and date of a result."""
    commit = f"commit {result['commit']}" + (" with changes" if result["changed"] else "")
    where = f"{result['machine']}; torch {result['versions']['torch']}; {result['date']}"
    return f"`{result['command']}`; {commit}; {where}."
