"""Read run folders and group runs that differ only in their seed."""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldblocks.evaluate.published import read_episodes
from worldblocks.run.config import MAY_CHANGE, read_config
from worldblocks.run.curve import running_mean
from worldblocks.run.log.sinks import read_jsonl
from worldblocks.run.saves.checkpoint import Checkpoint

# Configuration fields in which the runs of a group may differ.
FREE = {"seed", "seeds", *MAY_CHANGE} - {"steps"}


@dataclass(frozen=True)
class Run:
    """A run, or one of its tasks: its configuration, its progress, the score of each episode."""

    folder: Path
    config: dict[str, Any]
    step: int  # environment steps: actions · repeat
    updates: int | None
    seconds: float | None
    steps: np.ndarray  # environment steps at the end of each episode
    scores: np.ndarray
    task: str = ""  # one of several

    @property
    def environment(self) -> str:
        """Name of the environment: the task, or `env`, `task` or `game` of the configuration."""
        if self.task:
            return self.task
        names = [str(self.config[key]) for key in ("env", "task", "game") if key in self.config]
        return names[0] if names else "-"

    @property
    def means(self) -> np.ndarray:
        """Running mean of the score over ten episodes."""
        return running_mean(self.scores)

    @property
    def best(self) -> float:
        """The highest mean of ten consecutive episodes; of all if there are fewer."""
        return float(self.means[min(9, len(self.scores) - 1) :].max())


def find(paths: Iterable[Path | str]) -> list[Path]:
    """The run folders in `paths` and below them, each once.

    Raises:
        FileNotFoundError: One of `paths` contains no run.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        configs = [path / "config.json"]
        if not configs[0].exists():
            configs = sorted(path.rglob("config.json"))
        if not configs:
            raise FileNotFoundError(
                f"no run in {path}: neither it nor a folder below it has a config.json; give a run "
                f"folder"
            )
        for config in configs:
            found.setdefault(config.parent.resolve(), config.parent)
    return list(found.values())


def read(folder: Path) -> list[Run]:
    """Read a run folder: one run, or one for each task, as scores of two tasks have no mean.

    Raises:
        FileNotFoundError: The folder contains no run.
        ValueError: A file in it is malformed.
    """
    config = read_config(folder)
    lines = read_jsonl(folder / "episodes.jsonl")
    later = (line["task"] for line in lines if "task" in line)  # others may have joined
    tasks = list(dict.fromkeys([*config.get("tasks", ()), *later])) or [""]
    return [_read(folder, config, task) for task in tasks]


def _read(folder: Path, config: dict[str, Any], task: str) -> Run:
    episodes, metrics = read_episodes(folder, task), read_jsonl(folder / "metrics.jsonl")
    repeat = episodes.repeat
    ends = [line["step"] * repeat for line in metrics[-1:]]
    step = max([*ends, *episodes.steps[-1:].tolist()], default=0)
    updates = metrics[-1].get("updates") if metrics else None
    if Checkpoint(folder).exists():  # newer than the last line of metrics
        saved = Checkpoint(folder).header().get("position", {})
        step = saved["step"][0] * repeat if "step" in saved else step
        updates = saved["updates"][0] if "updates" in saved else updates
    timing = read_jsonl(folder / "timing.jsonl")
    times = [line["seconds"] for line in timing if line.get("seconds") is not None]
    return Run(
        folder=folder,
        config=config,
        step=step,
        updates=None if updates is None else int(updates),
        seconds=sum(times) if times else None,
        steps=episodes.steps,
        scores=episodes.scores,
        task=task,
    )


def groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Group runs that differ only in their seed, sorted by seed."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        same = {key: value for key, value in run.config.items() if key not in FREE}
        key = json.dumps([same, run.task], sort_keys=True)
        together.setdefault(key, []).append(run)
    return [sorted(group, key=lambda run: run.config.get("seed", 0)) for group in together.values()]


def label(group: list[Run]) -> str:
    """Common part of a group's folders: `logs/catch` for `logs/catch/seed-0`, …."""
    folders = [str(run.folder) for run in group]
    if len(folders) == 1:
        return folders[0]
    folders = [re.sub(r"\d+$", "", folder) for folder in folders]  # 1 and 10 share no digit
    same = itertools.takewhile(lambda letters: len({*letters}) == 1, zip(*folders, strict=False))
    common = "".join(letters[0] for letters in same)
    return re.sub(r"[-_./]*(seed)?[-_]*$", "", common) or group[0].environment
