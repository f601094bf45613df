"""Optional packages, imported when the thing that needs them is built."""

import importlib
from typing import Any


def extra(module: str, needed_by: str, *, in_extra: bool = True) -> Any:
    """Import a module that a plain installation does not have.

    Args:
        module: Its full name, such as `PIL.Image`.
        needed_by: The public name that cannot work without it, for the message.
        in_extra: Whether the extra `run` installs it; else it is a package of its own.

    Raises:
        ImportError: Names what is missing and the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        what = f"the extra 'run' ({package})" if in_extra else f"the package {package!r}"
        install = '"worldblocks[run]"' if in_extra else package
        raise ImportError(f"{needed_by} needs {what}: pip install {install}") from error
