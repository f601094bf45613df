"""The command: what a sentence compiles to, before any training."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from worldblocks.language.expression import ExpressionError
from worldblocks.language.model import LanguageError, LanguageModel
from worldblocks.language.rankers import FILES, packaged_model
from worldblocks.language.selector import Selector
from worldblocks.language.shown import explain


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with a sentence about what went wrong."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ExpressionError, LanguageError, ImportError, ValueError) as error:
        print(f"python -m worldblocks.language: {error}", file=sys.stderr)
        return 2


def models(cache: Path | None, offline: bool) -> tuple[LanguageModel, LanguageModel]:
    """The packaged model and encoder; behind a folder of caches if given, or those alone.

    Raises:
        ValueError: offline without a folder.
        LanguageError: a model is not installed.
    """
    model, encoder = (packaged_model(role, cache or "", offline) for role in FILES)
    return model, encoder


def _sentence(options: argparse.Namespace) -> int:
    model, encoder = models(options.cache, options.offline)
    selector = Selector(model, encoder, options.method)
    print(*explain(options.text, options.env, selector, rows=options.rows), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worldblocks.language",
        description="Rewards from language: look at what a sentence compiles to.",
    )
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    sentence = parts.add_parser("sentence", help="what a sentence compiles to, before any training")
    sentence.add_argument("text", help="the instruction")
    sentence.add_argument("--env", required=True, help="walker_walk, BabyAI-GoToLocal-v0, ...")
    sentence.add_argument("--method", help="parts of the selector, such as channel+embed")
    sentence.add_argument("--rows", type=int, default=300, help="sample observations")
    sentence.add_argument("--cache", type=Path, help="folder of the two caches of replies")
    sentence.add_argument("--offline", action="store_true", help="only the cache, no model")
    sentence.set_defaults(run=_sentence)
    return parser
