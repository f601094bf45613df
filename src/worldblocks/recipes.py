"""The recipes that come with the package: list them, and copy one to run and to change it.

python -m worldblocks.recipes                 a line for each
python -m worldblocks.recipes NAME [NAME …]   a copy of each in the current folder
"""

import argparse
import ast
import difflib
import shutil
import sys
from pathlib import Path

from worldblocks._install import extras_of, install


def folder() -> Path:
    """Where the recipes are: inside an installed package, at the top of a clone.

    >>> sorted(path.suffix for path in folder().glob("*.py"))[0]
    '.py'

    Raises:
        FileNotFoundError: The package was installed without them.
    """
    here = Path(__file__).resolve()
    places = here.parent / "_recipes", here.parents[2] / "recipes"
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"worldblocks has no recipes at {places[0]}; install its wheel again, or use a clone"
    )


def recipes() -> dict[str, str]:
    """The first line of the docstring of each recipe and of each tool over a run, by name.

    >>> all(line.endswith((".", "?")) for line in recipes().values())
    True
    """
    return {path.stem: _doc(path).partition("\n")[0] for path in sorted(folder().glob("*.py"))}


def copy_recipe(name: str, to: Path | str = ".") -> list[Path]:
    """Copy a recipe, and the folders of data named after it, into the folder `to`.

    Returns:
        What was written, the recipe first.

    Raises:
        ValueError: There is no recipe of this name.
        FileExistsError: `to` has a file or a folder of the same name; nothing is written.
        NotADirectoryError: `to` is not a folder.
    """
    source, to = folder() / f"{name}.py", Path(to)
    if name not in (known := recipes()):
        close = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"unknown recipe {name!r}; {hint}")
    if not to.is_dir():
        raise NotADirectoryError(f"asked to copy {name} into {to}, which is not a folder; make it")
    parts = [source, *(path for path in folder().glob(f"{name}_*") if path.is_dir())]
    for path in parts:
        if (to / path.name).exists():
            raise FileExistsError(
                f"{to / path.name} is there already and stays as it is; rename it, or copy "
                f"{name} into another folder"
            )
    shutil.copyfile(source, to / source.name)
    for path in parts[1:]:
        shutil.copytree(path, to / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    return [to / path.name for path in parts]


def _doc(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def main(arguments: list[str]) -> int:
    """List the recipes, or copy those that are named."""
    parser = argparse.ArgumentParser(
        "python -m worldblocks.recipes", description="List the recipes, or copy some of them here."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes to copy")
    names = parser.parse_args(arguments).names
    try:
        for name in names:
            written = copy_recipe(name)
            print(f"copied {', '.join(map(str, written))}; python {written[0]} --help")
            if extras := extras_of(_doc(written[0])):
                print(f"  needs {install(*extras)}")
        if not names:
            lines = recipes()
            width = max(map(len, lines))
            print(*(f"{name:{width}}  {line}" for name, line in lines.items()), sep="\n")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
