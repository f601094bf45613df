"""What is worth keeping of a run when the rest is deleted."""

import json
import shutil
from pathlib import Path
from typing import Any

from worldblocks.run.folder import read_config
from worldblocks.run.saves.checkpoint import Checkpoint
from worldblocks.run.saves.durable import replace_text

LINES = "metrics.jsonl"
FILES = (LINES, "episodes.jsonl", "timing.jsonl", "curve.png", "scores.json", "tasks.png")
FILES += ("proposal.json", "belief.png")
# What may differ between a copy and the run it was made of, which has gone on since.
FREE = ("steps", "resume", "logdir", "device", "workers")


def export(run: Path | str, folder: Path | str) -> Path:
    """Copy a run without replay and optimiser: small enough to be kept in git.

    The copy holds `config.json` (without `logdir`, a path of one machine); `metrics.jsonl`,
    `episodes.jsonl`, `timing.jsonl`, `curve.png`, `report.*`, of several tasks `scores.json` and
    `tasks.png`, of GLAM `proposal.json` and `belief.png`, where they are there; and a checkpoint of
    the agent's tensors as they were saved and the run's counters. The `load` of a recipe and
    `compare` read it; `--resume` does not. An earlier copy of the same run is replaced.

    Args:
        run: A run folder with a checkpoint.
        folder: Where the copy goes.

    Returns:
        The folder of the copy.

    Raises:
        FileExistsError: The folder holds another run, or `run` itself.
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
        path.unlink(missing_ok=True)  # so that the file of a copy always has the same name
    counters = {name: leaves for name, leaves in position.items() if leaves and None not in leaves}
    copy.save({"agent": weights, "position": counters})
    replace_text(folder / "config.json", json.dumps({**config, "logdir": ""}, indent=2) + "\n")
    return folder


def _check_free(run: Path, folder: Path, config: dict[str, Any]) -> None:
    """A folder is free if it holds no run, or an earlier copy of this one."""
    if folder.resolve() == run.resolve():
        raise FileExistsError(
            f"{folder} is the run that was to be copied; give another folder for the copy"
        )
    if not (folder / "config.json").exists():
        return
    there = read_config(folder)
    names = (there.keys() | config.keys()) - {*FREE}
    same = all(there.get(name) == config.get(name) for name in names)
    ours, theirs = (path / LINES for path in (run, folder))
    if same and theirs.exists():
        same = ours.exists() and ours.read_bytes().startswith(theirs.read_bytes())
    if not same or (folder / "tensorboard").exists():
        raise FileExistsError(
            f"{folder} holds another run, which a copy of {run} would replace; give another "
            f"folder, or delete that run first"
        )
