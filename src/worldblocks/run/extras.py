"""Optional packages, imported on first use."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldblocks._install import install


def extra(module: str, needed_by: str, *, extras: Sequence[str] = ("run",)) -> Any:
    """Import a module that a plain installation lacks.

    Args:
        module: Its full name, such as `PIL.Image`.
        needed_by: The public name that needs it, for the message.
        extras: The extras that install it; if empty, it is installed by its own name.

    Raises:
        ImportError: The module is not installed; gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        if not extras:
            what, command = f"the package {package!r}", f"pip install {package}"
        else:
            names = " and ".join(map(repr, extras))
            what = f"the extra{'s' * (len(extras) > 1)} {names} ({package})"
            command = install(*extras)
        raise ImportError(f"{needed_by} needs {what}: {command}") from error


def command_line(tool: str) -> Any:
    """The package tyro, which makes the command line of a tool from a dataclass.

    Args:
        tool: The `__file__` of the tool.

    Raises:
        SystemExit: It is not installed; gives the command that installs it.
    """
    try:
        return extra("tyro", Path(tool).name)
    except ImportError as error:
        raise SystemExit(str(error)) from error
