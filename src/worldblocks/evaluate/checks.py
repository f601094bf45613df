"""Checks as PASS, FAIL or INFO lines, printed or written into a run folder."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldblocks.run.saves.durable import replace_text


class Check(NamedTuple):
    """One line of a report."""

    name: str
    passed: bool | None  # None: reported but not judged
    detail: str


def format_report(checks: Sequence[Check]) -> str:
    """One line per check: PASS, FAIL, or INFO if it is not judged.

    >>> print(format_report([Check("reward error", True, "0.1 < 0.9 always zero")]))
    PASS  reward error: 0.1 < 0.9 always zero
    """
    words = {True: "PASS", False: "FAIL", None: "INFO"}
    return "\n".join(f"{words[c.passed]}  {c.name}: {c.detail}" for c in checks)


def write_report(logdir: Path | str, checks: Sequence[Check]) -> str:
    """Write `report.txt` and `report.json` into a run folder; return the text."""
    text = format_report(checks)
    replace_text(Path(logdir) / "report.txt", text + "\n")
    entries: list[dict[str, Any]] = [check._asdict() for check in checks]
    replace_text(Path(logdir) / "report.json", json.dumps(entries, indent=2) + "\n")
    return text


def verdict(judged: Mapping[str, Mapping[str, Any]], gated: bool = True) -> str:
    """Compare mean scores with the 95th percentile of a random policy's, one line per task.

    Args:
        judged: for each task, `random` and `trained`, each with the `scores` of episodes.
        gated: write PASS or FAIL, not INFO.

    >>> print(verdict({"walk": {"random": {"scores": [1.0, 2.0]}, "trained": {"scores": [3.0]}}}))
    PASS  walk: mean 3 of 1 episodes > 1.95, the 95th percentile of 2 random ones
    """
    lines = []
    for task, scores in judged.items():
        threshold = float(np.percentile(scores["random"]["scores"], 95))
        mean = statistics.fmean(scores["trained"]["scores"])
        word, than = ("PASS", ">") if mean > threshold else ("FAIL", "not >")
        word = word if gated else "INFO"
        counts = [len(scores[name]["scores"]) for name in ("trained", "random")]
        lines.append(
            f"{word}  {task}: mean {mean:.4g} of {counts[0]} episodes {than} {threshold:.4g}, the "
            f"95th percentile of {counts[1]} random ones"
        )
    return "\n".join(lines)
