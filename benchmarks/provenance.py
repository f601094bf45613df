"""The provenance of figures: date, commit, machine and versions."""

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import ROOT


def provenance(packages: Sequence[str] = ("torch", "numpy"), root: Path = ROOT) -> dict[str, Any]:
    """Date, commit, machine and versions; the commit is empty without git."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short=12", "HEAD", root=root),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions(packages)},
    }


def git(*words: str, root: Path = ROOT) -> str:
    """The output of git without the final line break; empty if git fails or is missing."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return ""
    return done.stdout.rstrip() if done.returncode == 0 else ""


def changed(*paths: str, root: Path = ROOT) -> list[str]:
    """Python and TOML files under these paths that are new or differ from the commit."""
    there = [path for path in paths if (root / path).exists()]
    status = git("status", "--porcelain", "--untracked-files=all", "--", *there, root=root)
    names = [line[3:].split(" -> ")[-1] for line in status.splitlines()]
    return sorted(name for name in names if name.endswith((".py", ".toml")))


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor and its number of cores."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = named[0] if named else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {model}"
