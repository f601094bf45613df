"""The recipe of a run, found by the name in its configuration or by a path."""

from pathlib import Path
from types import ModuleType

from worldblocks.run.folder import read_config
from worldblocks.run.recipe import load_recipe

NEEDED = ("load", "environments", "act", "world_model_loss", "actor_critic_loss")


def recipe_of(run: Path, path: Path | None = None) -> ModuleType:
    """The recipe at `path`; else the one that the run names, in this checkout's `recipes`.

    Raises:
        FileNotFoundError: no run there, or no such recipe: the package was not installed from a
            checkout in editable mode, or the recipe is one's own.
        ImportError: the recipe needs a package that is not installed.
        AttributeError: it lacks one of the functions that are needed here.
    """
    name = read_config(run).get("recipe", "")
    if path is None:
        path = Path(__file__).parents[3] / "recipes" / f"{name}.py"
        if not name or not path.is_file():
            raise FileNotFoundError(
                f"{run} was made by the recipe {name!r}, which is not in {path.parent}: give its "
                f"file with --recipe"
            )
    module = load_recipe(path)
    if missing := [function for function in NEEDED if not hasattr(module, function)]:
        raise AttributeError(
            f"{path} has no {', '.join(missing)}: a diagnosis needs a recipe with "
            f"{', '.join(NEEDED)}"
        )
    return module
