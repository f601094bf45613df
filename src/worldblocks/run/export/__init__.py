"""A small copy of a run: `wb.run.export` and `python -m worldblocks.run.export`."""

import json
import shutil
from pathlib import Path
from typing import Any

from worldblocks.run.config import MAY_CHANGE, read_config
from worldblocks.run.saves.checkpoint import Checkpoint
from worldblocks.run.saves.durable import replace_text

LINES = "metrics.jsonl"
FILES = (LINES, "episodes.jsonl", "timing.jsonl", "curve.png", "scores.json", "tasks.png")
FILES += ("proposal.json", "belief.png", "environment.json")


def export(run: Path | str, folder: Path | str) -> Path:
    """Copy a run without replay and optimiser: small enough to keep in git.

    The copy has `config.json` (without `logdir`, a path of one machine), a checkpoint of the
    agent's tensors and the run's counters, and those of `metrics.jsonl`, `episodes.jsonl`,
    `timing.jsonl`, `curve.png`, `report.*`, `scores.json`, `tasks.png`, `proposal.json`,
    `belief.png` and `environment.json` that exist. The `load` of a recipe and `compare` read it;
    `--resume` does not. An earlier copy of the same run is replaced.

    Args:
        run: A run folder with a checkpoint.
        folder: The folder of the copy.

    Returns:
        `folder` as a path.

    Raises:
        FileExistsError: `folder` holds another run, or is `run`.
        FileNotFoundError: `run` holds no run, or no checkpoint.
        ValueError: A file of the run is truncated or corrupted.
        KeyError: The checkpoint has no `agent`.
    """
    run, folder = Path(run), Path(folder)
    config = read_config(run)
    checkpoint = Checkpoint(run)
    weights, position = checkpoint.weights("agent"), checkpoint.header().get("position", {})
    _check_free(run, folder, config)
    folder.mkdir(parents=True, exist_ok=True)
    for path in [run / name for name in FILES] + sorted(run.glob("report.*")):
        if path.exists():
            shutil.copyfile(path, folder / path.name)
    copy = Checkpoint(folder)
    for path in (copy.folder / "manifest.json", *copy.folder.glob("state-*.safetensors")):
        path.unlink(missing_ok=True)  # so that the state file of a copy always has number 1
    counters = {name: leaves for name, leaves in position.items() if leaves and None not in leaves}
    copy.save({"agent": weights, "position": counters})
    replace_text(folder / "config.json", json.dumps({**config, "logdir": ""}, indent=2) + "\n")
    return folder


def _check_free(run: Path, folder: Path, config: dict[str, Any]) -> None:
    """Raise unless a folder holds no run, or an earlier copy of this one."""
    if folder.resolve() == run.resolve():
        raise FileExistsError(f"{folder} is the run to copy; give another folder for the copy")
    if not (folder / "config.json").exists():
        return
    copied = read_config(folder)
    names = (copied.keys() | config.keys()) - {*MAY_CHANGE}
    same = all(copied.get(name) == config.get(name) for name in names)
    ours, theirs = (path / LINES for path in (run, folder))
    if same and theirs.exists():
        same = ours.exists() and ours.read_bytes().startswith(theirs.read_bytes())
    if not same or (folder / "tensorboard").exists():
        raise FileExistsError(
            f"{folder} holds another run, which a copy of {run} would replace; give another "
            f"folder, or delete that run first"
        )
