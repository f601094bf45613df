"""The selector table of docs/blocks/language.md: how often each method puts a right phrase first.

    python -m benchmarks.learning.selectors

Asks the models; `--cache tests/benchmarks/learning/selector_cache --offline` takes their replies
from files.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.learning.cases import STYLES, Case, load_cases
from worldblocks.language import (
    LanguageError,
    LanguageModel,
    Random,
    Ranking,
    Selector,
    WordOverlap,
)
from worldblocks.language.command import models
from worldblocks.language.selector import ranked, sum_of_parts

METHODS = {
    "embedding": ("embed",),
    "raw likelihood": ("likelihood",),
    "PMI": ("pmi",),
    "channel": ("channel",),
    "PMI + channel": ("pmi", "channel"),
    "PMI + channel + embedding": ("pmi", "channel", "embed"),
}


class Answer(NamedTuple):
    """One method on one case: the place of the best right phrase, from 1, and what came first."""

    method: str
    case: Case
    place: int
    first: str


def wilson(right: int, cases: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of Wilson for a share, 95% by default.

        (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    >>> [round(end, 3) for end in wilson(5, 10)]
    [0.237, 0.763]
    """
    if not 0 <= right <= cases or not cases:
        raise ValueError(f"a share is of 1 case or more, got {right} of {cases}")
    share, more = right / cases, z * z / cases
    middle, half = share + more / 2, z * math.sqrt(share * (1 - share) / cases + more / 4 / cases)
    return (middle - half) / (1 + more), (middle + half) / (1 + more)


def answers(
    cases: Sequence[Case],
    model: LanguageModel,
    encoder: LanguageModel,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """Every method on every case; the model is asked once for each case.

    Args:
        cases: from `load_cases`.
        model: scores.
        encoder: embeds.
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
        found += [_answer(method, case, ranking) for method, ranking in rankings.items()]
        progress(done)
    return found


def _answer(method: str, case: Case, ranking: Ranking) -> Answer:
    place = 1 + min(ranking.items.index(phrase) for phrase in case.right)
    return Answer(method, case, place, ranking.items[0])


def table(found: Sequence[Answer]) -> str:
    """The table in Markdown: right at first and among three, with 95% intervals of Wilson."""
    methods = list(dict.fromkeys(answer.method for answer in found))
    head = ["method", "goals", "terms", *STYLES, "all, top-1", "95%", "all, top-3"]
    lines = [head, ["---"] * len(head)]
    for method in methods:
        own = [answer for answer in found if answer.method == method]
        kinds = [_count([a for a in own if a.case.kind == kind]) for kind in ("goal", "term")]
        styles = [_count([a for a in own if a.case.style == style]) for style in STYLES]
        first = sum(answer.place == 1 for answer in own)
        low, high = wilson(first, len(own))
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
    """The command line; 0, or 2 with a sentence about what went wrong."""
    options = _parser().parse_args(words)

    def progress(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} cases", end="", file=sys.stderr, flush=True)

    try:
        cases = load_cases(options.cases)
        found = answers(cases, *models(options.cache, options.offline), progress)
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
        description="Every selector on the case set, with intervals.",
    )
    parser.add_argument("--cases", type=Path, help="a file of cases; the 126 by default")
    parser.add_argument("--mistakes", choices=list(METHODS), help="list what a method got wrong")
    parser.add_argument("--cache", type=Path, help="folder of the two caches of replies")
    parser.add_argument("--offline", action="store_true", help="only the cache, no model")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
