"""`python -m worldblocks.run.curve`: draw the curve of a run in progress or of a killed one."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from worldblocks.run.config import read_config
from worldblocks.run.curve import plot_curve


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 0, or 2 if a folder holds no run."""
    parser = argparse.ArgumentParser(
        prog="python -m worldblocks.run.curve", description="Draw curve.png into run folders."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    for run in parser.parse_args(arguments).runs:
        try:
            read_config(run)
            print(plot_curve(run))
        except (OSError, ValueError) as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
