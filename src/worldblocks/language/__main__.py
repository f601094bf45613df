"""`python -m worldblocks.language`: the reward that a sentence compiles to."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from worldblocks.language.display.explained import explain
from worldblocks.language.model import LanguageError
from worldblocks.language.ranking.named import packaged_model
from worldblocks.language.ranking.selector import Selector
from worldblocks.language.rewards.expression import ExpressionError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, or 2 after printing an error."""
    options = _parser().parse_args(arguments)
    try:
        model = packaged_model("model", options.cache or "", options.offline)
        encoder = packaged_model("encoder", options.cache or "", options.offline)
        selector = Selector(model, encoder, options.method)
        print(*explain(options.text, options.env, selector, rows=options.rows), sep="\n")
    except (ExpressionError, LanguageError, ImportError, ValueError) as error:
        print(f"python -m worldblocks.language: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worldblocks.language",
        description="Show the reward that a sentence compiles to.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sentence = commands.add_parser("sentence", help="what a sentence compiles to")
    sentence.add_argument("text", help="the instruction")
    sentence.add_argument("--env", required=True, help="walker_walk, BabyAI-GoToLocal-v0, ...")
    sentence.add_argument("--method", help="parts of the selector, such as channel+embed")
    sentence.add_argument("--rows", type=int, default=300, help="sample observations")
    sentence.add_argument("--cache", type=Path, help="folder with cached replies of both models")
    sentence.add_argument("--offline", action="store_true", help="use the cache alone, no model")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
