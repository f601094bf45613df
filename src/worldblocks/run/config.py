"""The configuration of a run, in `config.json` of its folder."""

import dataclasses
import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

C = TypeVar("C")
# Fields of a configuration that do not affect the numbers of a run: a resumed one may change them.
MAY_CHANGE = ("steps", "resume", "logdir", "device", "workers", "log", "format")
FORMAT = 1  # of run folders, in `config.json`; 0, where none is written, reads the same


def read_config(logdir: Path | str) -> dict[str, Any]:
    """The fields that `run_folder` wrote.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: `config.json` is corrupted, or was written by a later version.
    """
    path = Path(logdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{logdir} holds no run: there is no config.json in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise ValueError(
            f"{path} is truncated or corrupted; restore it from a copy, or start another run"
        )
    if (version := config.get("format", 0)) not in range(FORMAT + 1):
        raise ValueError(
            f"{path} has format {version!r}; this version of worldblocks reads up to {FORMAT}: "
            f"load it with the version that saved it"
        )
    return config


def load_config(logdir: Path | str, kind: type[C], **changes: Any) -> C:
    """The configuration of a run as the dataclass `kind`.

    Fields that `kind` lacks, as after a change of a recipe, are dropped. A run of another recipe is
    loaded only if `kind` has all its fields, as in a copy of that recipe.

    Args:
        logdir: The run folder.
        kind: A dataclass.
        changes: Values that replace those of the run.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: `config.json` is corrupted, or was written by a later version or by another
            recipe.
    """
    there = read_config(logdir)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    made_by, here = there.get("recipe"), _recipe_name(kind)
    unknown = sorted(there.keys() - names - {"recipe", "format"})
    if made_by != here and made_by and here and unknown:
        raise ValueError(
            f"{logdir} was made by the recipe {made_by!r}, and {here!r} has no option "
            f"{', '.join(unknown)}: load the run with {made_by!r}"
        )
    saved = {name: value for name, value in there.items() if name in names}
    lists = {name: tuple(value) for name, value in saved.items() if isinstance(value, list)}
    return kind(**{**saved, **lists, **changes})


def _recipe_name(kind: type) -> str:
    """The file name of the recipe that defines a configuration, without `.py`."""
    return Path(getattr(sys.modules.get(kind.__module__), "__file__", None) or "").stem


def check_same(
    folder: Path, there: dict[str, Any], wanted: dict[str, Any], may_change: Collection[str]
) -> None:
    """Raise unless two configurations agree in all fields but `may_change`."""
    missing = "absent"
    differ = [
        f"{name} is {there.get(name, missing)!r} there, {wanted.get(name, missing)!r} here"
        for name in sorted(there.keys() | wanted.keys())
        if name not in may_change and there.get(name, missing) != wanted.get(name, missing)
    ]
    if differ:
        raise ValueError(
            f"cannot resume {folder} with another configuration: {'; '.join(differ)}; give the "
            f"same values, or another --logdir"
        )
