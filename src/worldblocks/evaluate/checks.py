"""Checks as lines: PASS, FAIL or INFO, on a terminal and in a run folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from worldblocks.run.durable import replace_text


class Check(NamedTuple):
    """One line of a report."""

    name: str
    passed: bool | None  # None: reported, not judged
    detail: str


def format_report(checks: Sequence[Check]) -> str:
    """One line a check: PASS, FAIL, or INFO where nothing is judged.

    >>> print(format_report([Check("reward error", True, "0.1 < 0.9 always zero")]))
    PASS  reward error: 0.1 < 0.9 always zero
    """
    words = {True: "PASS", False: "FAIL", None: "INFO"}
    return "\n".join(f"{words[c.passed]}  {c.name}: {c.detail}" for c in checks)


def write_report(logdir: Path | str, checks: Sequence[Check]) -> str:
    """Write `report.txt` and `report.json` into a run folder; returns the text."""
    text = format_report(checks)
    replace_text(Path(logdir) / "report.txt", text + "\n")
    entries: list[dict[str, Any]] = [check._asdict() for check in checks]
    replace_text(Path(logdir) / "report.json", json.dumps(entries, indent=2) + "\n")
    return text
