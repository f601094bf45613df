"""The command line of `compare`: print a table, write a picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from worldblocks.evaluate.compare.table import compare
from worldblocks.run.folder import check_writable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; exit with 2 and a message if a run cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m worldblocks.evaluate.compare",
        description="Print the scores of runs as a table and draw them as curves. Runs that differ "
        "only in their seed are one group.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run folder, or a folder of them"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("compare.png"), help="the picture (compare.png)"
    )
    options = parser.parse_args(arguments)
    try:
        check_writable(options.output.parent, "--output in another folder")
        print(compare(options.runs, options.output))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f"curves: {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
