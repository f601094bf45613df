"""Options that the commands share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.jobs import Job
from benchmarks.options import variables

Kind = TypeVar("Kind", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    rounds: int = 5  # turns of each case
    turn: float = 0.3  # seconds that a turn lasts about
    threads: int = 1  # of every worker
    env: tuple[str, ...] = ()  # KEY=VALUE, for all workers
    timeout: float = 600.0  # seconds to wait for a worker

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ValueError: says which option, what it was given, and what would work.
        """
        variables(self.env)
        for name, least in self.least().items():
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least {least}, got {getattr(self, name)}")

    def least(self) -> dict[str, float]:
        """The smallest value of each number."""
        return {"rounds": 1, "threads": 1, "turn": 0.0}

    @property
    def environment(self) -> dict[str, str]:
        """`--env` by key."""
        return variables(self.env)

    def measuring(self) -> dict[str, Any]:
        """What `interleave.measure` takes beside the jobs."""
        return {
            "rounds": self.rounds,
            "seconds": self.turn,
            "shared": self.environment,
            "timeout": self.timeout,
        }


def parsed(kind: type[Kind], name: str, about: str | None, words: Sequence[str]) -> Kind:
    """The options of a command, checked."""
    import tyro

    options = tyro.cli(
        kind, args=list(words), description=about, prog=f"python -m benchmarks {name}"
    )
    options.check()
    return options


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


def ours(name: str, adapter: str, work: Any, **arguments: Any) -> Job:
    """A worker of ours."""
    job = {"adapter": f"benchmarks.adapters.{adapter}", "work": work, "arguments": arguments}
    return Job(name=name, ours=True, **job)
