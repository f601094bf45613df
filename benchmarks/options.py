"""Options of the command line and their checks, each with a one-line message."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.work import SIZES, Work

PEERS = ("torchrl", "sheeprl", "cpprb", "flashbax", "rlax", "stable-baselines3", "torch")
CHECKOUTS = ("r2dreamer", "jax")
FIGURES = ROOT / "benchmarks" / "figures.json"


def among(option: str, given: str, known: Sequence[str]) -> list[str]:
    """The names in `a,b`, all of them where nothing is named.

    Raises:
        ValueError: one is unknown.
    """
    names = [name.strip() for name in given.split(",")] if given else list(known)
    if strange := [name for name in names if name not in known]:
        raise ValueError(
            f"--{option} names {', '.join(strange)}; {option} may name {', '.join(known)}"
        )
    return names


def pairs(option: str, form: str, given: Sequence[str]) -> dict[str, str]:
    """The values of `KEY=VALUE ...` by key.

    Raises:
        ValueError: one has no key or no `=`.
    """
    for one in given:
        if not one.partition("=")[0] or "=" not in one:
            raise ValueError(f"--{option} takes {form}, got {one!r}")
    return {key: value for key, _, value in (one.partition("=") for one in given)}


@dataclass(frozen=True, kw_only=True)
class Measuring:
    rounds: int = 10  # turns of each case of each contestant
    turn: float = 0.3  # seconds of a turn
    threads: int = 1  # of every worker
    env: tuple[str, ...] = ()  # KEY=VALUE, for all workers
    timeout: float = 600.0  # seconds to wait for a worker
    size: str = "size1m"  # of the agents: size1m, size12m, ...
    batch: int = 4  # windows of an update
    length: int = 32  # rows of each
    horizon: int = 15  # steps of imagination
    image_steps: int = 100_000  # steps in the replay of images
    proprio_steps: int = 1_000_000  # steps in the replay of vectors

    def check(self) -> None:
        """Check the options.

        Raises:
            ValueError: an option cannot be used.
        """
        among("size", self.size, list(SIZES))
        pairs("env", "KEY=VALUE", self.env)
        work = self.work()
        steps = 2 * work.streams * (work.sample[1] + 1)
        least = dict.fromkeys(("rounds", "threads", "batch", "horizon"), 1)
        least |= {"length": 2, "turn": 0, "image_steps": steps, "proprio_steps": steps}
        for name, value in least.items():
            if getattr(self, name) < value:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least {value}, got {getattr(self, name)}")

    def work(self) -> Work:
        """The sizes of the work."""
        names = ("threads", "size", "batch", "length", "horizon", "image_steps", "proprio_steps")
        return Work(**{name: getattr(self, name) for name in names})

    def turns(self) -> dict[str, Any]:
        """The arguments of `timing.measure` except the jobs."""
        shared = pairs("env", "KEY=VALUE", self.env)
        known = {"rounds": self.rounds, "seconds": self.turn, "timeout": self.timeout}
        return {**known, "shared": shared}


@dataclass(frozen=True, kw_only=True)
class Options(Measuring):
    only: str = ""  # subjects, joined by commas: update, rssm, returns, replay, imports
    peers: str = "all"  # peers, joined by commas; "none" measures worldblocks alone
    name: str = "latest"  # of these figures in the file
    out: Path = FIGURES  # where the figures go
    page: bool = False  # measure nothing: write the pages from the figures
    allow_dirty: bool = False  # with --page: accept figures of uncommitted code

    python: str = ""  # interpreter of the peers of the package index; by default this one
    r2dreamer: str = ""  # path of a checkout of NM512/r2dreamer
    r2dreamer_python: str = ""  # its interpreter
    r2dreamer_compile: bool = False  # its compiled form too, which takes minutes to compile
    jax: str = ""  # path of a checkout of danijar/dreamerv3
    jax_python: str = ""  # its interpreter

    def check(self) -> None:
        """See `Measuring`."""
        super().check()
        _ = self.peer_names
        for name in CHECKOUTS:
            path = getattr(self, name)
            if path and not Path(path).is_dir():
                raise ValueError(
                    f"--{name} is {path}, which is not a folder; give a checkout's path"
                )

    @property
    def peer_names(self) -> list[str]:
        """The peers to measure; checkouts among them need their paths."""
        if self.peers == "none":
            return []
        given = "" if self.peers == "all" else self.peers
        return among("peers", given, [*PEERS, *CHECKOUTS])
