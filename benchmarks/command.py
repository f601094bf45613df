"""The command line: a first word that names a command, or options of a measurement."""

import importlib
import sys
from collections.abc import Callable, Sequence

import benchmarks
from benchmarks import measure as measuring
from benchmarks.options import Options

# Command -> the `module:function` that takes the words after it and returns an exit code. Without a
# command the groups are measured.
COMMANDS: dict[str, str] = {
    "scaling": "benchmarks.commands.reports:SCALING",
    "floor": "benchmarks.commands.reports:FLOOR",
    "fit": "benchmarks.commands.reports:FIT",
    "compare": "benchmarks.commands.compare:main",
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. What is wrong with the options is one line on stderr."""
    words = sys.argv[1:] if words is None else list(words)
    try:
        if words and not words[0].startswith("-"):
            return named(words[0])(words[1:])
        return measure(words)
    except (ValueError, FileNotFoundError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def named(name: str) -> Callable[[Sequence[str]], int]:
    """The function of a command."""
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ValueError(
            f"unknown command {name!r}; commands are {known}, and without one the groups are "
            f"measured: `python -m benchmarks --only update`"
        )
    module, _, function = COMMANDS[name].partition(":")
    return getattr(importlib.import_module(module), function)


def measure(words: Sequence[str]) -> int:
    """The default."""
    import tyro

    options = tyro.cli(
        Options, args=list(words), description=benchmarks.__doc__, prog="python -m benchmarks"
    )
    options.check()
    return measuring.main(options, words)
