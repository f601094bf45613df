"""What the figures say beside their tables: who is ahead of us, what is left of `add`."""

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.record import PLAIN
from benchmarks.tables import number, ranged

FLOOR = "copy floor"
ADDING = {"add": "an image row", "add_proprio": "a vector row"}


def others_ahead(data: Mapping[str, Any]) -> list[str]:
    """A line for each pair of equal work in which ours takes more."""
    return [ahead(entry) for name, entry in data.items() if name[0] != "_" and is_ahead(entry)]


def is_ahead(entry: Mapping[str, Any]) -> bool:
    """Whether the other one takes less time, memory or packages, for the same work.

    To two decimals, as a reader sees it.
    """
    return round(entry["ratio"] or 0.0, 2) > 1.0 and not entry["no_claim"]


def ahead(entry: Mapping[str, Any]) -> str:
    """In words."""
    own, title = entry["ours_facts"]["name"], entry["title"]
    variant = "" if own == PLAIN else f" beside {own}"
    threads = entry["ours_facts"]["threads"]
    title += f", {threads} threads" if threads > 1 else ""
    who = entry["peer_facts"]["name"]
    return f"- {title}: {who}{variant}: {number(entry['ratio'])}{ranged(entry)}"


def left_of_adding(data: Mapping[str, Any], group: str) -> list[str]:
    """What a replay does when a row is added, beside the copy of its bytes."""
    found = []
    for case, row in ADDING.items():
        entry = data.get(f"{group}/{case}/{FLOOR}")
        if entry is None:
            continue
        both = entry.get("ours_rounds"), entry.get("peer_rounds")
        left = [entry["ours"] - entry["peer"]]
        if None not in both:
            left = [ours - peer for ours, peer in zip(*both, strict=False)]
        spread = f" ({number(min(left))} – {number(max(left))} by round)" if len(left) > 1 else ""
        found.append(
            f"Adding {row}: the copy of the bytes alone takes {number(entry['peer'])} "
            f"{entry['unit']} a step; {number(statistics.median(left))} {entry['unit']}{spread} "
            f"are left to worldblocks."
        )
    return ["\n\n".join(found)] if found else []
