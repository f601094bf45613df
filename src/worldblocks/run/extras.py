"""Optional packages, imported when the thing that needs them is built."""

import importlib
from typing import Any


def extra(module: str, needed_by: str) -> Any:
    """Import a module that only the extra `run` installs.

    Args:
        module: Its full name, such as `PIL.Image`.
        needed_by: The public name that cannot work without it, for the message.

    Raises:
        ImportError: Names the extra and the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"wb.run.{needed_by} needs the extra 'run' ({module.split('.')[0]}): "
            f'pip install "worldblocks[run]"'
        ) from error
