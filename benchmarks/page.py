"""The documentation page, from the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.groups import GROUPS
from benchmarks.tables import markdown, tables

HEAD = """# Benchmarks

*This page is generated from `benchmarks/latest.json` by `python -m benchmarks --page`.*

worldblocks and other libraries in one run on the same work. Every contestant is a process of its
own; the processes take turns, round by round. A figure is the median of all samples, with its
quartiles; a ratio is our median over the other's, so that below 1 we are faster. **A ratio in
brackets claims nothing**: the two do amounts of work that differ by more than 10% (matrix
multiplications and convolutions, counted while running, each layer in the form that defines it), or
the work could not be counted.
CPU time is that of the process; wall time means something on a quiet machine only.
"""


def render(data: Mapping[str, Any]) -> str:
    """The page of a set of figures."""
    parts = [HEAD, origin(data["_meta"])]
    shown = tables(data)
    for group in GROUPS.values():
        own = [table for table in shown if table.group == group.name]
        if not own:
            continue
        parts += [f"## {group.title}", group.about]
        for table in own:
            parts += [f"**{table.title[0].upper()}{table.title[1:]}**", markdown(table)]
        parts += notes(data, group.name)
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def origin(meta: Mapping[str, Any]) -> str:
    """Where and how the figures were made, and who did not take part."""
    commit = f"commit {meta['commit']}" + (" with changes" if meta["changed"] else "")
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    given = " ".join(f"{key}={value}" for key, value in meta["environment"].items())
    lines = [
        f"`{meta['command']}`; {commit}; {meta['machine']}; {meta['date']}; "
        f"{meta['rounds']} rounds; {versions}.",
        f"Environment of every worker: {f'`{given}`' if given else 'nothing set'}.",
    ]
    if meta["skipped"]:
        lines.append(f"Did not take part: {', '.join(meta['skipped'])}.")
    return "\n\n".join(lines)


def notes(data: Mapping[str, Any], group: str) -> list[str]:
    """Versions and peculiarities of the contestants of a group."""
    found = {}
    for name, entry in data.items():
        if name.startswith("_") or entry["group"] != group:
            continue
        for side in ("ours_facts", "peer_facts"):
            if facts := entry.get(side):
                found[facts["name"]] = note(facts)
    lines = [f"- {name}: {text}" for name, text in found.items() if text]
    return ["\n".join(lines)] if lines else []


def note(facts: Mapping[str, Any]) -> str:
    """Versions, own environment, and what its adapter says of it."""
    parts = [", ".join(f"{name} {version}" for name, version in facts["versions"].items())]
    parts.append(" ".join(f"`{key}={value}`" for key, value in facts["environment"].items()))
    return "; ".join(part for part in [*parts, facts["note"]] if part)


def write_page(data: Mapping[str, Any], path: Path) -> None:
    """Write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(data), encoding="utf-8")
