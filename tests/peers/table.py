"""Which promises blocks of other libraries keep, as tables of a page."""

import datetime
import functools
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis

from worldblocks.testing import BrokenPromise, check_dynamics, check_replay, promises

from . import torchrl_replay, torchrl_rssm

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"
BEGIN, END = "<!-- tables: python tests/peers --page -->\n", "<!-- end of tables -->"
SIZES = {"embed_dim": 6, "action_dim": 3}


def of_torchrl(core: str) -> Callable[[str], Any]:
    """`check_dynamics` of one promise, on its RSSM with one of its cores."""
    make = functools.partial(torchrl_rssm.TorchRLRSSM, *SIZES.values(), core)
    told = {"prior": torchrl_rssm.TorchRLRSSM.prior, "latent": torchrl_rssm.latent}
    return lambda name: check_dynamics(make, **SIZES, **told, only=name)


def of_replay(name: str) -> Any:
    """`check_replay` of one promise."""
    return check_replay(torchrl_replay.TorchRLReplay, only=name)


TABLES = {
    check_dynamics: {"`block_gru`": of_torchrl("block_gru"), "`gru`": of_torchrl("gru")},
    check_replay: {"`SliceSampler`": of_replay},
}


def found(run: Callable[[str], Any], name: str) -> str:
    """What a cell says."""
    print(name, file=sys.stderr, flush=True)
    try:
        skipped = run(name).skipped
    except BrokenPromise as broken:
        lines = [line.strip() for line in str(broken).splitlines()]
        seen = next(line for line in lines if line.startswith("seen: "))
        return f"**broken**: {seen.removeprefix('seen: ')}"
    return f"not applicable: {skipped[name]}" if name in skipped else "kept"


def tables() -> str:
    """All tables, with versions and date."""
    hypothesis.settings.register_profile("peers", max_examples=100, deadline=None)
    hypothesis.settings.load_profile("peers")
    names = ("torchrl", "tensordict", "torch", "hypothesis")
    told = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    text = [f"Run on {datetime.date.today()} with {told}; 100 examples a promise, on a CPU."]
    for check, blocks in TABLES.items():
        text += [f"\n### {check.__name__}\n", f"| promise | {' | '.join(blocks)} |"]
        text.append("|---" * (1 + len(blocks)) + "|")
        for promise in promises(check):
            cells = " | ".join(found(run, promise.name) for run in blocks.values())
            text.append(f"| `{promise.name}`: {promise.sentence} | {cells} |")
    return "\n".join(text) + "\n"


def write(text: str) -> None:
    """Put the tables where the page has them."""
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
