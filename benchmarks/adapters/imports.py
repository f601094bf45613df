"""What a fresh interpreter pays for an import, and the packages that a distribution needs."""

import functools
import os
import re
import resource
import subprocess
import sys
from importlib import metadata

from benchmarks.timing import Timed
from benchmarks.work import Work


def fresh(work: Work, distribution: str, statements: dict[str, str]) -> Timed:
    """Each statement in an interpreter of its own; the time is that of the children."""
    return Timed(
        functions={case: functools.partial(run, code) for case, code in statements.items()},
        values={"packages": float(len(closure(distribution)))},
        versions={distribution: metadata.version(distribution)},
        mode="fresh process",
        note="; ".join(f"{case}: `{code}`" for case, code in statements.items()),
        clock=children,
        warm_calls=0,
    )


def run(code: str) -> None:
    """Run code in a new interpreter like this one."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, stdout=sys.stderr)


def children() -> float:
    """CPU seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def closure(distribution: str) -> set[str]:
    """A distribution, what it requires, what that requires, as far as it is installed."""
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
            continue  # an optional one, or of another platform
        found.add(re.sub(r"[-_.]+", "-", name).lower())
        waiting += requirements(needed, extra)
    return found


def requirements(needed: list[str], extra: str) -> list[tuple[str, str]]:
    """Names and extras of those requirements whose condition holds here."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        from pip._vendor.packaging.requirements import Requirement
    found = []
    for one in map(Requirement, needed):
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            found += [(one.name, more) for more in ("", *one.extras)]
    return found
