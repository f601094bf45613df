"""`python tests/peers`: run the checks on blocks of other libraries and print the results.

It needs torchrl (the extra `bench`) and the extra `testing`. `--page` also writes the tables of
docs/peers.md.
"""

import argparse
import datetime
import functools
import importlib.metadata
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from torchrl_replay import TorchRLReplay
from torchrl_rssm import TorchRLRSSM, latent

from worldblocks.testing import BrokenPromise, check_dynamics, check_replay, promises

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
BEGIN, END = "<!-- tables: python tests/peers --page -->\n", "<!-- end of tables -->"
SIZES = {"embed_dim": 6, "action_dim": 3}


def of_torchrl(core: str) -> Callable[[str], Any]:
    """`check_dynamics` of one promise, on torchrl's RSSM with one of its cores."""
    make = functools.partial(TorchRLRSSM, *SIZES.values(), core)
    options = {"prior": TorchRLRSSM.prior, "latent": latent}
    return lambda name: check_dynamics(make, **SIZES, **options, only=name)


def of_replay(name: str) -> Any:
    """`check_replay` of one promise."""
    return check_replay(TorchRLReplay, only=name)


TABLES = {
    check_dynamics: {"`block_gru`": of_torchrl("block_gru"), "`gru`": of_torchrl("gru")},
    check_replay: {"`SliceSampler`": of_replay},
}


def result(run: Callable[[str], Any], name: str) -> str:
    """The result of one promise, as a cell of the table."""
    print(name, file=sys.stderr, flush=True)
    try:
        skipped = run(name).skipped
    except BrokenPromise as broken:
        lines = [line.strip() for line in str(broken).splitlines()]
        reason = next(line for line in lines if line.startswith("found: "))
        return f"**broken**: {reason.removeprefix('found: ')}"
    return f"not applicable: {skipped[name]}" if name in skipped else "kept"


def tables() -> str:
    """All tables, with versions and date."""
    hypothesis.settings.register_profile("peers", max_examples=100, deadline=None)
    hypothesis.settings.load_profile("peers")
    names = ("torchrl", "tensordict", "torch", "hypothesis")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    text = [f"Run on {datetime.date.today()} with {versions}; 100 examples a promise, on a CPU."]
    for check, blocks in TABLES.items():
        text += [f"\n### {check.__name__}\n", f"| promise | {' | '.join(blocks)} |"]
        text.append("|---" * (1 + len(blocks)) + "|")
        for promise in promises(check):
            cells = " | ".join(result(run, promise.name) for run in blocks.values())
            text.append(f"| `{promise.name}`: {promise.sentence} | {cells} |")
    return "\n".join(text) + "\n"


def write(text: str) -> None:
    """Replace the tables of the page."""
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="write the tables of docs/peers.md")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    found = tables()
    print(found)
    if chosen.page:
        write(found)
