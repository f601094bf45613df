"""What a group is, and the contestants it is made of."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job
from benchmarks.options import Options
from benchmarks.work import Work

# What pip installs for a peer of the index; the extra `bench` has the same.
REQUIREMENTS = {
    "torchrl": "torchrl>=0.14",
    "sheeprl": "sheeprl>=0.8.4",
    "stable-baselines3": "stable-baselines3>=2.9",
}
INSTALL = {
    "r2dreamer": "the packages of its pyproject.toml",
    "jax": "the packages of its requirements.txt",
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cases that the same contestants are measured on.

    Attributes:
        name: for `--only`.
        title: of its section on the page.
        about: what is measured, for the page.
        cases: by case, its title at the sizes of the work; the order is that of the tables.
        jobs: the contestants.
        units: by case; milliseconds where none is given.
        counts_flops: whether a ratio needs equal FLOPs to claim something.
        rounds: at most so many: where one call takes seconds.
    """

    name: str
    title: str
    about: str
    cases: Callable[[Work], dict[str, str]]
    jobs: Callable[[Options], list[Job]]
    units: Mapping[str, str] = field(default_factory=dict)
    counts_flops: bool = False
    rounds: int | None = None


def ours(options: Options, adapter: str, name: str = "worldblocks", **job: Any) -> Job:
    """worldblocks, under the interpreter that runs the command."""
    return Job(name=name, adapter=adapter, work=options.work(), ours=True, **job)


def peer(options: Options, package: str, adapter: str, name: str = "", **job: Any) -> list[Job]:
    """A peer of the package index; nothing where it was not chosen."""
    if package not in options.peer_names:
        return []
    job |= {"python": options.python or sys.executable}
    job |= {"requirement": REQUIREMENTS.get(package, package)}
    return [Job(name=name or package, adapter=adapter, work=options.work(), **job)]


def checkout(
    options: Options, package: str, adapter: str, name: str = "", **arguments: Any
) -> list[Job]:
    """A peer that is a checkout; nothing where its path was not given."""
    path = options.checkout(package)
    if package not in options.peer_names or not path:
        return []
    return [
        Job(
            name=name or {"jax": "official JAX"}.get(package, package),
            adapter=adapter,
            work=options.work(),
            arguments={"repo": str(Path(path).resolve()), **arguments},
            python=getattr(options, f"{package}_python") or sys.executable,
            requirement=INSTALL[package],
        )
    ]
