"""The selector table of docs/blocks/language.md: how often each method ranks a right phrase first.

    python -m benchmarks.learning.selectors

This runs the language models; `--cache tests/benchmarks/learning/selector_cache --offline` reads
their replies from files. The cases were written before any selector was run on them, and nothing is
tuned on them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import worldblocks as wb
from worldblocks.language import (
    LanguageError,
    LanguageModel,
    Random,
    Selector,
    WordOverlap,
    packaged_model,
)
from worldblocks.language.ranking.ranking import ranked
from worldblocks.language.ranking.selector import sum_of_parts

CASES = Path(__file__).with_name("cases.jsonl")
KINDS = ("goal", "term")
STYLES = ("literal", "paraphrase", "inference")
METHODS = {
    "embedding": ("embed",),
    "raw likelihood": ("likelihood",),
    "PMI": ("pmi",),
    "channel": ("channel",),
    "PMI + channel": ("pmi", "channel"),
    "PMI + channel + embedding": ("pmi", "channel", "embed"),
}


class Case(NamedTuple):
    """An instruction, a menu, and the phrases that are right.

    Attributes:
        id: unique.
        kind: `goal` (of MiniGrid) or `term` (a reward of a control body).
        world: `minigrid` or the body.
        style: `literal`, `paraphrase`, or `inference`, which takes a deduction.
        instruction: the question.
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
    """The cases in a file of JSON lines; by default the 126 in `cases.jsonl`.

    Raises:
        ValueError: a line is not a case, an answer is not on its menu, or an id occurs twice.
    """
    place = Path(path) if path else CASES
    cases = []
    for number, line in enumerate(place.read_text(encoding="utf-8").splitlines(), 1):
        try:
            case = Case(**json.loads(line))
        except (TypeError, ValueError) as cause:
            raise ValueError(
                f"line {number} of {place} is not a case ({cause}); the keys are {Case._fields}"
            ) from cause
        known = case.kind in KINDS and case.style in STYLES
        if not known or not case.right or not set(case.right) < set(case.candidates):
            raise ValueError(
                f"case {case.id!r} of {place}: kind must be one of {KINDS}, style one of {STYLES}, "
                f"and some but not all of the candidates must be right"
            )
        cases.append(case)
    if len({case.id for case in cases}) < len(cases):
        raise ValueError(f"an id occurs twice in {place}; each case needs its own")
    return cases


class Answer(NamedTuple):
    """One method on one case: the rank of the best right phrase, from 1, and the first phrase."""

    method: str
    case: Case
    place: int
    first: str


def answers(
    cases: Sequence[Case],
    model: LanguageModel,
    encoder: LanguageModel,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Every method on every case; the model is called once for each case.

    Args:
        cases: from `load_cases`.
        model: the language model that scores phrases.
        encoder: the model that embeds them.
        progress: called with the number of cases done.
    """
    selector = Selector(model, encoder, "likelihood+pmi+channel+embed")
    found = []
    for done, case in enumerate(cases, 1):
        simple = {"random": Random(), "word overlap": WordOverlap()}
        rankings = {m: r.rank(case.instruction, case.candidates) for m, r in simple.items()}
        scores = selector.score(case.instruction, case.candidates)
        for method, parts in METHODS.items():
            total = sum_of_parts([scores[part] for part in parts])
            rankings[method] = ranked(case.candidates, total)
        for method, ranking in rankings.items():
            place = 1 + min(ranking.items.index(phrase) for phrase in case.right)
            found.append(Answer(method, case, place, ranking.items[0]))
        progress(done)
    return found


def table(found: Sequence[Answer]) -> str:
    """The table in Markdown: right first and among the first three, with Wilson intervals."""
    methods = list(dict.fromkeys(answer.method for answer in found))
    head = ["method", "goals", "terms", *STYLES, "all, top-1", "95%", "all, top-3"]
    lines = [head, ["---"] * len(head)]
    for method in methods:
        own = [answer for answer in found if answer.method == method]
        kinds = [_count([a for a in own if a.case.kind == kind]) for kind in ("goal", "term")]
        styles = [_count([a for a in own if a.case.style == style]) for style in STYLES]
        first = sum(answer.place == 1 for answer in own)
        low, high = wb.evaluate.wilson(first, len(own))
        interval = f"{low:.2f} – {high:.2f}"
        share = f"{first}/{len(own)} = {first / len(own):.2f}"
        lines.append([method, *kinds, *styles, share, interval, _count(own, 3)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mistakes(found: Sequence[Answer], method: str) -> list[str]:
    """One line for each case that a method got wrong."""
    wrong = [a for a in found if a.method == method and a.place > 1]
    return [
        f"{a.case.id} {a.case.style}: {a.case.instruction!r} -> {a.first!r}, "
        f"right at place {a.place}: {a.case.right[0]!r}"
        for a in wrong
    ]


def _count(found: Sequence[Answer], among: int = 1) -> str:
    return f"{sum(answer.place <= among for answer in found)}/{len(found)}"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after an error message."""
    options = _parser().parse_args(words)

    def progress(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} cases", end="", file=sys.stderr, flush=True)

    try:
        cases = load_cases(options.cases)
        model = packaged_model("model", options.cache or "", options.offline)
        encoder = packaged_model("encoder", options.cache or "", options.offline)
        found = answers(cases, model, encoder, progress)
    except (LanguageError, ImportError, ValueError) as error:
        print(f"python -m benchmarks.learning.selectors: {error}", file=sys.stderr)
        return 2
    print(table(found))
    if options.mistakes:
        print(*mistakes(found, options.mistakes), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning.selectors",
        description="Evaluate every selector on the cases, with intervals.",
    )
    parser.add_argument("--cases", type=Path, help="a file of cases; the 126 by default")
    parser.add_argument("--mistakes", choices=list(METHODS), help="list what a method got wrong")
    parser.add_argument("--cache", type=Path, help="folder of the two caches of replies")
    parser.add_argument("--offline", action="store_true", help="only the cache, no model")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
