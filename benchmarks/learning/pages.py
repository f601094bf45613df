"""Figures and tables of the data in docs/results/data, for docs/results.md."""

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
AT = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000)  # rows of a table beside published scores


class Kept(NamedTuple):
    """What is kept of one seed."""

    result: dict[str, Any]
    episodes: wb.evaluate.Episodes

    def hit(self, threshold: float) -> float:
        """Environment steps to the first mean of ten episodes that reaches it; inf if none."""
        found = self.result["first_hit"][f"{threshold:g}"]
        return math.inf if found is None else found

    def score_at(self, step: int) -> tuple[float, int] | None:
        """Mean of 100 episodes, and where: a peer's is its first evaluation from `step` on."""
        if "score" in self.result:
            return self.result["score"]["mean"], self.result["steps"]
        judged = [(e["mean"], e["step"]) for e in self.result["evaluations"]]
        return next((one for one in judged if one[1] >= 0.99 * step), None)


def collect(entry: Entry, root: Path) -> list[Kept]:
    """The finished seeds of an entry."""
    return [Kept(one, episodes(one)) for one in records(entry, root)]


def episodes(one: dict[str, Any]) -> wb.evaluate.Episodes:
    """The curve of one seed, as figures are drawn from it."""
    steps, scores = (np.array(one["curve"][key]) for key in ("step", "score"))
    name, repeat, ratio = (one[key] for key in ("name", "repeat", "train_ratio"))
    return wb.evaluate.Episodes(name, steps, scores, repeat, ratio)


def redraw(entries: Sequence[Entry], root: Path) -> None:
    """Write every figure and table anew."""
    for entry in entries:
        if entry.kind == "run" and not entry.group:
            draw(entry, entries, root)
    grounding.draw(entries, root)
    (root / TABLES).parent.mkdir(parents=True, exist_ok=True)
    (root / TABLES).write_text(tables(entries, root), encoding="utf-8")


def tables(entries: Sequence[Entry], root: Path) -> str:
    """The file of all tables: a section for each of them, which a page includes by its name."""
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
        others = {one.what: kept for one, kept in peers_of(entry, entries, root).items()}
        wb.evaluate.plot_published(
            [kept.episodes for kept in ours],
            root / "docs" / "results" / f"{entry.name}.png",
            published=curve_of(entry, root),
            others={name: [kept.episodes for kept in group] for name, group in others.items()},
            parameters=ours[0].result["parameters"],
            title=entry.what,
        )


def peers_of(entry: Entry, entries: Sequence[Entry], root: Path) -> dict[Entry, list[Kept]]:
    """The finished seeds of what is compared with an entry."""
    found = {one: collect(one, root) for one in entries if one.beside == entry.name}
    return {one: kept for one, kept in found.items() if kept}


def curve_of(entry: Entry, root: Path) -> Any:
    """The published curve of an entry, if there is one."""
    if not entry.published:
        return None
    file, task = entry.published.split("/")
    return wb.evaluate.read_published(
        root / "docs" / "results" / "published" / f"{file}.json", task
    )


def section(entry: Entry, entries: Sequence[Entry], root: Path) -> str:
    """All there is to say of one entry."""
    ours, curve = collect(entry, root), curve_of(entry, root)
    if not ours:
        return f"{entry.what}: not run yet. {planned(entry)}"
    parts = [f"![{entry.what}: curves](results/{entry.name}.png)", seeds_table(entry, ours)]
    if curve:
        parts.append(published_table(entry, ours, curve))
    if peers := peers_of(entry, entries, root):
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
            own = kept.episodes
            edges, means = wb.evaluate.binned_scores(own.steps, own.scores, curve.width, until=at)
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
    ends = [kept.result["steps"] for kept in group]
    hits = [kept.hit(threshold) for kept in group]
    # A seed that was not there at its end needs more than that: the median is then a lower bound.
    middle = statistics.median(min(hit, end) for hit, end in zip(hits, ends, strict=True))
    more = "" if math.isfinite(statistics.median(hits)) else "> "
    ratio = f"{more}{middle / ours:.2g}" if math.isfinite(ours) else "–"
    return [" / ".join(steps_text(hit, end) for hit, end in zip(hits, ends, strict=True)), ratio]


def group_table(entries: Sequence[Entry], root: Path) -> str:
    """One row for each entry of a group: an experiment with several settings."""
    threshold = entries[0].thresholds[0] / entries[0].scale
    header = ["setting", "seeds", "score", f"steps to {threshold:g}"]
    rows = []
    for entry in entries:
        kept = collect(entry, root)
        count = f"{len(kept)} of {len(entry.seeds)}"
        scores = [number(one.result["score"]["mean"] / entry.scale) for one in kept]
        hits = [steps_text(one.hit(entry.thresholds[0]), entry.steps) for one in kept]
        rows.append([entry.what, count, " / ".join(scores) or "–", " / ".join(hits) or "–"])
    first = [kept.result for entry in entries for kept in collect(entry, root)][:1]
    return "\n\n".join([markdown(header, rows), *map(source, first)])


def overview(entries: Sequence[Entry], root: Path) -> str:
    """The queue as aligned text, with the seeds that have begun and not ended."""
    header, rows = overview_rows(entries, root)
    for entry, row in zip(entries, rows, strict=True):
        row[-1] = ", ".join([row[-1], *begun(entry, root)])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in [header, *rows]]
    return "\n".join(text.rstrip() for text in lines)


def begun(entry: Entry, root: Path) -> list[str]:
    """The seeds that have begun and not ended."""
    found = []
    for seed in unfinished(entry, root):
        if (path := note_path(entry, seed, root)).exists():
            failed = json.loads(path.read_text(encoding="utf-8")).get("code")
            found.append(f"seed {seed} {'failed' if failed else 'begun'}")
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
