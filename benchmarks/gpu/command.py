"""The command line: `bundle` here, `checks` and `run` on the machine with the GPU."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.gpu import bundle as packing
from benchmarks.gpu import play, runner
from benchmarks.gpu.cases import CASES
from benchmarks.options import among


def results() -> Path:
    """`$OUT` where it is set."""
    return Path(os.environ.get("OUT") or "gpu-results")


def bundle(out: Path = ROOT / ".bundle") -> int:
    """Fetch the wheels that the machine lacks and unpack what walker_walk needs of them.

    Args:
        out: the folder, which is replaced; git must ignore it.
    """
    return packing.main(out)


def checks(
    out: Path | None = None, device: str = "cuda", quick: bool = False, only: str = ""
) -> int:
    """Capture, parity, columns, bfloat16 and timings; four minutes at most.

    Args:
        out: where `checks.json` is written, after each finding; by default $OUT or gpu-results.
        device: cuda, or cpu to rehearse.
        quick: tiny sizes.
        only: these checks, such as captured,size12m.
    """
    chosen = {name: CASES[name] for name in among("only", only, list(CASES))}
    return runner.main(out or results(), device=device, quick=quick, cases=chosen)


def run(
    out: Path | None = None, device: str = "cuda", quick: bool = False, minutes: float = 7.0
) -> int:
    """One run of walker_walk at the reference's settings, stopped by the clock.

    Args:
        out: where `run.json`, its curve and its figures go; by default $OUT or gpu-results.
        device: cuda, or cpu to rehearse.
        quick: a tiny agent, a few episodes.
        minutes: of the whole command; the run ends half a minute earlier.
    """
    return play.main(out or results(), device=device, quick=quick, minutes=minutes)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. What is wrong is one line on stderr."""
    import tyro

    commands: dict[str, Any] = {"bundle": bundle, "checks": checks, "run": run}
    try:
        return tyro.extras.subcommand_cli_from_dict(
            commands, args=words, prog="python -m benchmarks.gpu"
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 1
