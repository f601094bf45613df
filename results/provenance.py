"""Where a result comes from: commit, versions, machine and date."""

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("worldblocks", "torch", "numpy", "gymnasium", "dm-control", "mujoco", "ale-py")


def provenance(root: Path, packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """What to write beside a figure; `changed` lists files that differ from the commit."""
    return {
        "commit": git(root, "rev-parse", "--short=12", "HEAD") or None,
        "changed": changed(root, "src", "recipes", "results"),
        "versions": {"python": platform.python_version(), **versions(packages)},
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
    }


def git(root: Path, *words: str) -> str:
    """What git prints, nothing where there is no repository."""
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return ""
    return done.stdout.rstrip() if done.returncode == 0 else ""


def changed(root: Path, *paths: str) -> list[str]:
    """Python and TOML files under some paths that the commit does not have as they are."""
    there = [path for path in paths if (root / path).exists()]
    lines = git(root, "status", "--porcelain", "--untracked-files=all", "--", *there).splitlines()
    names = [line[3:].split(" -> ")[-1] for line in lines]
    return sorted(name for name in names if name.endswith((".py", ".toml")))


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor and how many cores of it there are."""
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        named = re.search(r"^model name\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE)
        model = named[1] if named else model
    return f"{os.cpu_count()} cores of {model}"
