"""The recipe of a run as a module."""

import importlib.util
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

from worldblocks._install import install
from worldblocks.run.cli.commands import BARE_NAME
from worldblocks.run.config import read_config

EXTRAS = ("atari", "dmc", "gym")


def recipe_of(
    run: Path | str, path: Path | None, *, tool: str, needed: Collection[str] = ()
) -> ModuleType:
    """The recipe that made a run: the file at `path`, else the one named in the run's config.

    A run folder may come from a stranger, so it never decides which code runs: its `config.json`
    has only a bare name, which is looked up in the folder of the tool.

    Args:
        run: the run folder.
        path: the value of `--recipe`, if given.
        tool: the `__file__` of the tool.
        needed: functions that the tool calls.

    Raises:
        FileNotFoundError: there is no run or no such recipe.
        ImportError: the recipe needs a package that is not installed.
        ValueError: it lacks a function.
    """
    recipe = load_recipe(path or _named(run, Path(tool).parent))
    if missing := [function for function in needed if not hasattr(recipe, function)]:
        raise ValueError(
            f"{recipe.__file__} has no {', '.join(missing)}; {Path(tool).name} needs a recipe with "
            f"{', '.join(needed)}"
        )
    return recipe


def _named(run: Path | str, folder: Path) -> Path:
    """The file in `folder` of the recipe named by a run."""
    name = read_config(run).get("recipe", "")
    path = folder / f"{name}.py"
    plain = BARE_NAME.fullmatch(str(name))
    if not plain or not path.is_file():
        why = f"which is not in {folder}" if plain else "which is not a bare name of a-z, 0-9 and _"
        raise FileNotFoundError(
            f"{run} was made by the recipe {name!r}, {why}; give its file with --recipe"
        )
    return path


def load_recipe(path: Path) -> ModuleType:
    """Import the file of a recipe, once.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the recipe needs a package that is not installed.
    """
    name = f"worldblocks_recipe_{path.stem}"
    for imported in (sys.modules.get(path.stem), sys.modules.get(name)):
        if Path(getattr(imported, "__file__", None) or "").resolve() == path.resolve():
            return imported  # type: ignore[return-value]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}: --recipe takes the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except ImportError as cause:
        del sys.modules[name]
        kind = path.stem.rsplit("_", 1)[-1]
        command = install(kind) if kind in EXTRAS else f"pip install {cause.name}"
        raise ImportError(f"the recipe {path.name} needs {cause.name}: {command}") from cause
    return module
