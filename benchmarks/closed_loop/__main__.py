"""The command line of `python -m benchmarks.closed_loop`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import benchmarks.closed_loop
from benchmarks import ROOT, figures
from benchmarks.closed_loop.compare import compare
from benchmarks.closed_loop.games import GAMES
from benchmarks.closed_loop.record import read
from benchmarks.closed_loop.runner import Plan
from benchmarks.closed_loop.show import draw, tables

PUBLISHED = ROOT / "docs" / "results" / "closed_loop"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. What is wrong is one line on stderr."""
    options = parser().parse_args(words)
    try:
        if not options.compare:
            plan = Plan(
                game=options.game,
                seeds=options.seeds,
                steps=options.steps,
                out=options.out,
                official=options.official,
                python=options.python,
            )
            plan.check()
            with contextlib.suppress(OSError):
                os.nice(5)
            plan.run()
        data = compare(read(options.out / options.game), options.game)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"benchmarks.closed_loop: {error}", file=sys.stderr)
        return 2
    for folder in [options.out, *[PUBLISHED] * options.publish]:
        for path in write(data, folder):
            print(f"written: {path}")
    print(f"\n{tables(data)}")
    return 0


def write(data: dict, folder: Path) -> list[Path]:
    """Write the comparison, its table and its picture; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{data['game']}.{end}" for end in ("json", "md", "png")]
    paths[0].write_text(figures.compact(data) + "\n", encoding="utf-8")
    paths[1].write_text(tables(data) + "\n", encoding="utf-8")
    draw(data, paths[2])
    return paths


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.closed_loop",
        description=benchmarks.closed_loop.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("game", choices=sorted(GAMES))
    made.add_argument("--out", type=Path, required=True, help="runs go to OUT/GAME/SIDE-SEED")
    made.add_argument("--official", default="", help="a checkout of danijar/dreamerv3")
    made.add_argument("--python", default="python", help="the interpreter with its packages")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--steps", type=int, default=12_000, help="environment steps of each run")
    made.add_argument("--compare", action="store_true", help="run nothing, compare what is there")
    made.add_argument("--publish", action="store_true", help="also to docs/results/closed_loop")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
