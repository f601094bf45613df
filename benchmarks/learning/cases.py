"""The cases that selectors are compared on: an instruction, a menu, and the phrases that are right.

They were written before any selector was run on them, and nothing is tuned on them.
"""

import json
from pathlib import Path
from typing import NamedTuple

CASES = Path(__file__).with_name("cases.jsonl")
KINDS = ("goal", "term")
STYLES = ("literal", "paraphrase", "inference")


class Case(NamedTuple):
    """One question with its answer.

    Attributes:
        id: unique.
        kind: `goal` (of MiniGrid) or `term` (a reward of a control body).
        world: `minigrid` or the body.
        style: `literal`, `paraphrase`, or `inference`: it has to be worked out.
        instruction: what is asked.
        candidates: the menu.
        right: the candidates that answer it.
    """

    id: str
    kind: str
    world: str
    style: str
    instruction: str
    candidates: list[str]
    right: list[str]


def load_cases(path: str | Path | None = None) -> list[Case]:
    """The cases of a file of JSON lines; by default the 126 next to this one.

    Raises:
        ValueError: a line is no case, an answer is not on its menu, or an id comes twice.
    """
    place = Path(path) if path else CASES
    cases = []
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        try:
            case = Case(**json.loads(line))
        except (TypeError, ValueError) as cause:
            raise ValueError(
                f"line {number} of {place} is no case ({cause}); it has the keys {Case._fields}"
            ) from cause
        known = case.kind in KINDS and case.style in STYLES
        if not known or not case.right or not set(case.right) < set(case.candidates):
            raise ValueError(
                f"case {case.id!r} of {place}: the kind is one of {KINDS}, the style of {STYLES}, "
                f"and some but not all of the candidates are right"
            )
        cases.append(case)
    if len({case.id for case in cases}) < len(cases):
        raise ValueError(f"an id of {place} comes twice; each case has one of its own")
    return cases
