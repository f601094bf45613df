"""Command lines that continue a run or use it, from any folder."""

import re
import shlex
import sys
from pathlib import Path

from worldblocks.recipes import folder

BARE_NAME = re.compile(r"[a-z0-9_]+")  # of a recipe, which a tool looks up beside itself


def resume_command(logdir: Path | str) -> str:
    """The command line that continues the run of this process in `logdir`, from any folder.

    With `--seeds`, `logdir` is `<folder>/seed-<n>` and the command names `<folder>`: it continues
    this run and makes those of the remaining seeds.
    """
    script, *given = sys.argv
    words, rest = [], iter(given)
    for word in rest:
        if word == "--logdir":
            next(rest, None)
        elif word not in ("--resume", "--debug") and not word.startswith("--logdir="):
            words.append(word)
    if any(word.split("=")[0] == "--seeds" for word in words) and Path(logdir).name.startswith(
        "seed-"
    ):
        logdir = Path(logdir).parent
    there = str(Path(logdir).absolute())
    command = ["python", str(Path(script).absolute()), *words, "--logdir", there, "--resume"]
    return shlex.join(command)


def tool_command(tool: str, logdir: Path | str, recipe: str, *options: str) -> str:
    """The command line of a tool over a run, from any folder: `evaluate.py` of a run, say.

    Args:
        tool: the file name of a tool in the folder `recipes`.
        logdir: the run folder.
        recipe: the `__file__` of the recipe. If the tool is not beside it, it is the one that
            came with worldblocks; if that would not find the recipe, the command has `--recipe`.
        options: further words.
    """
    path = Path(recipe).absolute()
    beside = path.with_name(tool)
    words = ["python", str(beside if beside.is_file() else folder() / tool)]
    words.append(str(Path(logdir).absolute()))
    if not beside.is_file() or not BARE_NAME.fullmatch(path.stem):
        words += ["--recipe", str(path)]
    return shlex.join([*words, *options])
