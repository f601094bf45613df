"""The command: a table on the terminal, a picture in a file."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from worldblocks.evaluate.compare.table import compare


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 with a sentence where a run cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m worldblocks.evaluate.compare",
        description="Scores of runs as a table and as curves; runs that differ only in their seed "
        "are one group.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a folder of them"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("compare.png"), help="the picture (compare.png)"
    )
    options = parser.parse_args(arguments)
    try:
        print(compare(options.runs, options.output))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"curves: {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
