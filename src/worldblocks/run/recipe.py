"""A recipe as a module, by its path: nothing in the package knows a recipe by name."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXTRAS = ("atari", "dmc", "gym")


def load_recipe(path: Path) -> ModuleType:
    """Import the file of a recipe.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the recipe needs a package that is not installed.
    """
    name = f"worldblocks_recipe_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}: --recipe takes the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except ImportError as cause:
        kind = path.stem.rsplit("_", 1)[-1]
        what = f'"worldblocks[{kind}]"' if kind in EXTRAS else cause.name
        raise ImportError(
            f"{path.name}, the recipe, needs {cause.name}: pip install {what}"
        ) from cause
    return module
