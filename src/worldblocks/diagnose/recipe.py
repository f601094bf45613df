"""The recipe of a run, found by name or path, and what is needed of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from worldblocks.run.folder import read_config

NEEDED = ("load", "environments", "act", "world_model_loss", "actor_critic_loss")
EXTRAS = ("atari", "dmc", "gym")


def recipe_of(run: Path) -> Path:
    """The file of the recipe that a run's configuration names, in this checkout's `recipes`.

    Raises:
        FileNotFoundError: no run there, or no such recipe: the package was not installed from a
            checkout in editable mode, or the recipe is one's own.
    """
    name = read_config(run).get("recipe", "")
    path = Path(__file__).parents[3] / "recipes" / f"{name}.py"
    if not name or not path.is_file():
        raise FileNotFoundError(
            f"{run} was made by the recipe {name!r}, which is not at {path}: give its file with "
            f"--recipe"
        )
    return path


def load_recipe(path: Path) -> ModuleType:
    """A recipe as a module, by its path.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: the recipe needs a package that is not installed.
        AttributeError: it lacks one of the functions that are needed here.
    """
    spec = importlib.util.spec_from_file_location(f"worldblocks_recipe_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}: --recipe takes the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except ImportError as cause:
        kind = path.stem.rsplit("_", 1)[-1]
        what = f'"worldblocks[{kind}]"' if kind in EXTRAS else cause.name
        raise ImportError(f"{path.name} needs {cause.name}: pip install {what}") from cause
    if missing := [name for name in NEEDED if not hasattr(module, name)]:
        raise AttributeError(
            f"a diagnosis calls {', '.join(NEEDED)} of a recipe; {path} has no {', '.join(missing)}"
        )
    return module
