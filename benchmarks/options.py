"""The command line of a measurement."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs import ROOT
from benchmarks.work import SIZES, Work

PEERS = ("torchrl", "sheeprl", "cpprb", "flashbax", "rlax", "stable-baselines3", "torch")
CHECKOUTS = ("r2dreamer", "jax")
LATEST = ROOT / "benchmarks" / "latest.json"
PAGE = ROOT / "docs" / "performance" / "benchmarks.md"


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """What `--env` gives, by key.

    Raises:
        ValueError: a pair has no key or no `=`.
    """
    for pair in pairs:
        if not pair.partition("=")[0] or "=" not in pair:
            raise ValueError(f"--env takes KEY=VALUE, got {pair!r}")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


@dataclass(frozen=True, kw_only=True)
class Options:
    only: str = ""  # groups to measure, joined by commas; all of them by default
    peers: str = "all"  # peers to measure, joined by commas; "none" measures worldblocks alone
    rounds: int = 10  # turns of each case of each contestant
    turn: float = 0.3  # seconds that a turn lasts about
    threads: int = 1  # of every worker
    env: tuple[str, ...] = ()  # KEY=VALUE, for all workers
    timeout: float = 600.0  # seconds to wait for a worker
    out: Path = LATEST  # where the figures go
    page: bool = False  # measure nothing: write the documentation page from the figures
    allow_dirty: bool = False  # with --page: though the figures are of files that no commit has

    python: str = ""  # interpreter of the peers of the package index; by default this one
    r2dreamer: str = ""  # path of a checkout of NM512/r2dreamer
    r2dreamer_python: str = ""  # its interpreter
    r2dreamer_compile: bool = False  # its compiled form too: minutes of compiling
    jax: str = ""  # path of a checkout of danijar/dreamerv3
    jax_python: str = ""  # its interpreter

    size: str = "size1m"  # of the agents: size1m, size12m, ...
    batch: int = 4  # windows of an update
    length: int = 32  # rows of each
    horizon: int = 15  # steps of imagination
    image_steps: int = 100_000  # steps in the replay of images
    proprio_steps: int = 1_000_000  # steps in the replay of vectors

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ValueError: says which option, what it was given, and what would work.
        """
        if self.size not in SIZES:
            raise ValueError(f"--size {self.size} is unknown; sizes are {', '.join(SIZES)}")
        known = (*PEERS, *CHECKOUTS)
        strange = [name for name in self.peer_names if name not in known]
        if strange:
            raise ValueError(
                f"--peers names {', '.join(strange)}; peers are {', '.join(known)}, or all, or none"
            )
        variables(self.env)
        for name in CHECKOUTS:
            path = self.checkout(name)
            if path and not Path(path).is_dir():
                raise ValueError(
                    f"--{name} is {path}, where there is no folder; give a checkout's path"
                )
        for name, least in self._least().items():
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least {least}, got {getattr(self, name)}")

    def _least(self) -> dict[str, float]:
        """The smallest value of each number."""
        work = self.work()
        steps = 2 * work.streams * (work.sample[1] + 1)
        few = dict.fromkeys(("rounds", "threads", "batch", "horizon"), 1)
        replay = dict.fromkeys(("image_steps", "proprio_steps"), steps)
        return {**few, **replay, "length": 2, "turn": 0.0}

    @property
    def peer_names(self) -> tuple[str, ...]:
        """The peers to measure; checkouts among them need their paths."""
        if self.peers in ("all", "none"):
            return (*PEERS, *CHECKOUTS) if self.peers == "all" else ()
        return tuple(name.strip() for name in self.peers.split(","))

    @property
    def environment(self) -> dict[str, str]:
        """`--env` by key."""
        return variables(self.env)

    def checkout(self, name: str) -> str:
        """The path of a checkout as given, empty where it was not."""
        return getattr(self, name)

    def work(self) -> Work:
        """The sizes of what is measured."""
        names = ("threads", "size", "batch", "length", "horizon", "image_steps", "proprio_steps")
        return Work(**{name: getattr(self, name) for name in names})
