"""The recipe of a run as a module. Nothing in the package knows a recipe by name."""

import importlib.util
import re
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

from worldblocks.run.folder import read_config

EXTRAS = ("atari", "dmc", "gym")


def recipe_of(
    run: Path | str, path: Path | None, *, beside: Path, needed: Collection[str] = ()
) -> ModuleType:
    """The recipe that made a run: the file at `path`, else the one that the run names.

    A run folder may come from a stranger, so it never says which code is executed. The name in its
    `config.json` is a bare one, looked up in a folder of the caller.

    Args:
        run: the run folder.
        path: what a person typed after `--recipe`, if anything.
        beside: the folder of the recipes that a run may name.
        needed: functions that the caller uses.

    Raises:
        FileNotFoundError: there is no run, or no such recipe.
        ImportError: the recipe needs a package that is not installed.
        AttributeError: it lacks a function that is needed.
        ValueError: the run's configuration cannot be read.
    """
    if path is None:
        name = read_config(run).get("recipe", "")
        path = beside / f"{name}.py"
        if not re.fullmatch(r"[a-z0-9_]+", str(name)) or not path.is_file():
            raise FileNotFoundError(
                f"{run} was made by the recipe {name!r}, which is not in {beside}: give its file "
                f"with --recipe"
            )
    recipe = load_recipe(path)
    if missing := [function for function in needed if not hasattr(recipe, function)]:
        raise AttributeError(
            f"{path.name} has no {', '.join(missing)}: the recipe of this run needs "
            f"{', '.join(needed)} here"
        )
    return recipe


def load_recipe(path: Path) -> ModuleType:
    """The file of a recipe as a module, imported once.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the recipe needs a package that is not installed.
    """
    imported = sys.modules.get(path.stem)
    if imported and Path(getattr(imported, "__file__", None) or "").resolve() == path.resolve():
        return imported
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
        what = f'-e ".[{kind}]"' if kind in EXTRAS else cause.name
        raise ImportError(
            f"{path.name}, the recipe, needs {cause.name}: pip install {what}"
        ) from cause
    return module
