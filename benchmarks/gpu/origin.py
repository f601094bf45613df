"""Where figures come from."""

import datetime
import platform
from importlib import metadata
from typing import Any

from benchmarks.measure import git, machine


def origin() -> dict[str, Any]:
    """Date, commit (empty without git), machine and versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "machine": machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "numpy")},
    }
