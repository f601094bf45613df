"""A subject of measurement: its cases and its contestants."""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.options import Options, among
from benchmarks.process import Job
from benchmarks.work import Work

NAMES = ("update", "rssm", "returns", "replay", "imports")  # each a file of this folder

# The pip requirement of a peer if it is not just its name; the same as in the extra `bench`.
REQUIREMENTS = {
    "torchrl": "torchrl>=0.14",
    "sheeprl": "sheeprl>=0.8.4",
    "stable-baselines3": "stable-baselines3>=2.9",
    "r2dreamer": "the packages of its pyproject.toml",
    "jax": "the packages of its requirements.txt",
}


class Case(NamedTuple):
    """A title with the sizes of the work, and the unit: s, ms or µs for times."""

    title: str
    unit: str = "ms"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A library, or a variant of it, that takes part.

    Attributes:
        name: in tables.
        adapter: `module:function` in this package.
        peer: its name in `--peers`; empty if the code is in this repository.
        ours: whether it is a variant of worldblocks.
        arguments: of the adapter, in addition to the work.
        environment: variables for its process.
    """

    name: str
    adapter: str
    peer: str = ""
    ours: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def job(self, work: Work, **known: Any) -> Job:
        """Its process; `known` are further fields of the job."""
        own = {"name": self.name, "ours": self.ours, "environment": self.environment}
        adapter, arguments = f"benchmarks.{self.adapter}", self.arguments
        return Job(**{"adapter": adapter, "work": work, "arguments": arguments, **own, **known})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The contents of a subject's file.

    Attributes:
        name: for `--only`.
        title: of its section on the page.
        about: what is measured, for the page.
        cases: by name, in the order of the tables.
        contestants: all of them.
        summary: a sentence for other pages, from the cases of a run and its origin.
        counts_flops: whether ratios are valid only for equal FLOPs.
        rounds: upper limit, for calls that take seconds.
    """

    name: str
    title: str
    about: str
    cases: Callable[[Work], dict[str, Case]]
    contestants: tuple[Contestant, ...]
    summary: Callable[[Mapping[str, Any], Mapping[str, Any]], str] | None = None
    counts_flops: bool = False
    rounds: int | None = None

    def jobs(self, options: Options) -> list[Job]:
        """Ours, the peers from the package index, and the checkouts whose path is given."""
        found = []
        for one in self.contestants:
            peer, known = one.peer, {}
            if peer and peer not in options.peer_names:
                continue
            if one.arguments.get("compile") and not options.r2dreamer_compile:
                continue
            python = options.python
            if peer in ("r2dreamer", "jax"):
                path, python = getattr(options, peer), getattr(options, f"{peer}_python")
                if not path:
                    continue
                known["arguments"] = {**one.arguments, "repo": str(Path(path).resolve())}
            if peer:
                known |= {"python": python or sys.executable}
                known |= {"requirement": REQUIREMENTS.get(peer, peer)}
            found.append(one.job(options.work(), **known))
        return found


def subject(name: str) -> Subject:
    """The subject in the file of this name."""
    return importlib.import_module(f"benchmarks.{name}").SUBJECT


def chosen(only: str) -> list[Subject]:
    """The subjects named in `a,b`; all of them by default."""
    return [subject(name) for name in among("only", only, NAMES)]
