"""Where figures come from: date, commit, machine and versions."""

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
    """What stands with every figure; the commit is empty without git."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short=12", "HEAD", root=root),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions(packages)},
    }


def git(*words: str, root: Path = ROOT) -> str:
    """What git prints, without its last line break; nothing where it fails or is missing."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return ""
    return done.stdout.rstrip() if done.returncode == 0 else ""


def changed(*paths: str, root: Path = ROOT) -> list[str]:
    """Python and TOML files under some paths that differ from the commit or are new."""
    there = [path for path in paths if (root / path).exists()]
    status = git("status", "--porcelain", "--untracked-files=all", "--", *there, root=root)
    names = [line[3:].split(" -> ")[-1] for line in status.splitlines()]
    return sorted(name for name in names if name.endswith((".py", ".toml")))


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor and how many cores of it there are."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = named[0] if named else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores of {model}"
