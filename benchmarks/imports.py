"""Subject: import time in a fresh interpreter, and the packages of a distribution."""

import functools
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from benchmarks.subject import Case, Contestant, Subject
from benchmarks.work import Work
from benchmarks.worker import Timed

# By case: one block is the λ-return; an agent is everything that an agent imports.
STATEMENTS = {
    "worldblocks": {
        "block": "from worldblocks.returns import lambda_return",
        "agent": "from worldblocks import ema, encoders, decoders, heads, normalize, optim, rssm; "
        "from worldblocks import diagnose, envs, losses, replay, returns, run",
    },
    "torch": {"block": "import torch", "agent": "import torch"},
    "torchrl": {
        "block": "from torchrl.objectives.value.functional import td_lambda_return_estimate",
        "agent": "import torchrl.data, torchrl.envs, torchrl.modules, torchrl.objectives",
    },
    "sheeprl": {
        "block": "from sheeprl.algos.dreamer_v3.utils import compute_lambda_values",
        "agent": "import sheeprl.algos.dreamer_v3.dreamer_v3",
    },
    "stable-baselines3": {"agent": "import stable_baselines3"},
}


def fresh(work: Work, distribution: str) -> Timed:
    """Each statement in its own interpreter; the time is that of the child processes."""
    statements = dict(STATEMENTS[distribution])
    if distribution == "worldblocks":
        statements["update"] = first_update(work)
    return Timed(
        functions={case: functools.partial(run, code) for case, code in statements.items()},
        values={"packages": float(len(closure(distribution)))},
        versions={distribution: metadata.version(distribution)},
        mode="fresh process",
        note="; ".join(f"{case}: `{code}`" for case, code in statements.items()),
        clock=children,
        warm_calls=0,
    )


def first_update(work: Work) -> str:
    """Build the recipe's agent and make one update."""
    names = ("size", "threads", "batch", "length", "horizon")
    sizes = ", ".join(f"{name}={getattr(work, name)!r}" for name in names)
    return (
        "from benchmarks import ours, torch_tools; from benchmarks.work import Work; "
        f"work = Work({sizes}); torch_tools.prepare(work.threads); ours.assemble(work).step()"
    )


def run(code: str) -> None:
    """Run code in a new interpreter of the same kind."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=sys.stderr)


def children() -> float:
    """CPU seconds of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def closure(distribution: str) -> set[str]:
    """A distribution and its installed requirements, direct and indirect."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        from pip._vendor.packaging.requirements import Requirement
    found: set[str] = set()
    waiting = [(distribution, "")]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # optional, or for another platform
        found.add(re.sub(r"[-_.]+", "-", name).lower())
        for one in map(Requirement, needed):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                waiting += [(one.name, more) for more in ("", *one.extras)]
    return found


def cases(work: Work) -> dict[str, Case]:
    """Times of a fresh process, then the packages."""
    update = f"first update ({work.size}, {work.batch} × {work.length})"
    return {
        "block": Case("import one block, fresh process", "s"),
        "agent": Case("import all that an agent needs, fresh process", "s"),
        "update": Case(f"import, build, {update}, fresh process", "s"),
        "packages": Case("packages that it installs, itself included", ""),
    }


def summary(found: Mapping[str, Any], origin: Mapping[str, Any]) -> str:
    """From a fresh process to the end of the first update."""
    one = found["update"]["sides"]["worldblocks"]
    cpu, wall = one["figure"], one["other"]
    cpu, wall = (cpu, wall) if found["update"]["clock"] == "cpu" else (wall, cpu)
    return (
        f"From a fresh process to the end of the first update: {cpu:.2g} s of CPU time, "
        f"{wall:.2g} s of wall time."
    )


SUBJECT = Subject(
    name="imports",
    title="Import",
    about=(
        "Time of a new interpreter that imports and ends. The first update is that of the Atari "
        "recipe, on random images, from the start of the process to its end. Packages are the "
        "requirements of the distribution and theirs, as installed, without extras. At most three "
        "rounds."
    ),
    cases=cases,
    contestants=tuple(
        Contestant(
            name=name,
            adapter="imports:fresh",
            peer="" if name == "worldblocks" else name,
            ours=name == "worldblocks",
            arguments={"distribution": name},
        )
        for name in STATEMENTS
    ),
    summary=summary,
    rounds=3,
)
