"""Optional packages, imported on first use."""

import importlib
from pathlib import Path
from typing import Any

from worldblocks._install import install


def extra(module: str, needed_by: str, *, in_extra: bool = True) -> Any:
    """Import a module that a plain installation lacks.

    Args:
        module: Its full name, such as `PIL.Image`.
        needed_by: The public name that needs it, for the message.
        in_extra: Whether the extra `run` installs it; else it is installed by its own name.

    Raises:
        ImportError: The module is not installed; gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        what = f"the extra 'run' ({package})" if in_extra else f"the package {package!r}"
        command = install("run") if in_extra else f"pip install {package}"
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
