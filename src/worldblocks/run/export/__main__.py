"""`python -m worldblocks.run.export`: copy a run and print the size of the copy."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from worldblocks.run.export import export


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit code 0, or 2 if the run cannot be copied."""
    parser = argparse.ArgumentParser(
        prog="python -m worldblocks.run.export",
        description="Copy a run without replay and optimiser: its configuration, curves, report "
        "and the weights of the agent.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the copy")
    options = parser.parse_args(arguments)
    try:
        folder = export(options.run, options.folder)
    except (OSError, ValueError, KeyError) as error:
        parser.error(str(error.args[0]) if isinstance(error, KeyError) else str(error))
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    weights = sum(size for path, size in sizes.items() if path.suffix == ".safetensors")
    print(f"{folder}: {_size(sum(sizes.values()))}, of which weights {_size(weights)}")
    return 0


def _size(count: int) -> str:
    return f"{count / 1e6:,.2f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


if __name__ == "__main__":
    raise SystemExit(main())
