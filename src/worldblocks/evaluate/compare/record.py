"""What a run folder says about its run, and which runs belong together."""

import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldblocks.run.checkpoint import Checkpoint
from worldblocks.run.curve import running_mean
from worldblocks.run.folder import read_config
from worldblocks.run.sinks import read_jsonl

# Fields in which runs of one group may differ.
FREE = ("seed", "seeds", "logdir", "resume", "device", "workers")


@dataclass(frozen=True)
class Run:
    """One run: its configuration, how far it came, and the score of each finished episode."""

    folder: Path
    config: dict[str, Any]
    step: int  # environment steps as published curves count them: actions · repeat
    updates: int | None
    seconds: float | None
    steps: np.ndarray  # of each episode, counted likewise
    scores: np.ndarray

    @property
    def environment(self) -> str:
        """What is played, by whichever name the recipe has for it."""
        names = [str(self.config[key]) for key in ("env", "task", "game") if key in self.config]
        return names[0] if names else "-"

    @property
    def means(self) -> np.ndarray:
        """Mean score of each episode and up to nine before it."""
        return running_mean(self.scores)

    @property
    def best(self) -> float:
        """The highest mean of ten episodes in a row; of all of them where there are fewer."""
        return float(self.means[min(9, len(self.scores) - 1) :].max())


def find(paths: Iterable[Path | str]) -> list[Path]:
    """The run folders among some folders and below them, each once.

    Raises:
        FileNotFoundError: There is no run in one of them.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        configs = [path / "config.json"]
        if not configs[0].exists():
            configs = sorted(path.rglob("config.json"))
        if not configs:
            raise FileNotFoundError(
                f"no run in {path}: neither it nor a folder below it has a config.json; give the "
                f"folder of a run"
            )
        for config in configs:
            found.setdefault(config.parent.resolve(), config.parent)
    return list(found.values())


def read(folder: Path) -> Run:
    """The run of a folder.

    Raises:
        FileNotFoundError: The folder holds no run.
        ValueError: A file of it is not what a run writes.
    """
    config = read_config(folder)
    episodes = [line for line in read_jsonl(folder / "episodes.jsonl") if line["score"] is not None]
    metrics = read_jsonl(folder / "metrics.jsonl")
    step = max([line["step"] for line in (*metrics[-1:], *episodes[-1:])], default=0)
    updates = metrics[-1].get("updates") if metrics else None
    if Checkpoint(folder).exists():  # newer than the last line of metrics
        saved = Checkpoint(folder).header().get("position", {})
        step, updates = (
            saved.get(key, [own])[0] for key, own in (("step", step), ("updates", updates))
        )
    repeat = config.get("repeat", 1)
    return Run(
        folder=folder,
        config=config,
        step=step * repeat,
        updates=None if updates is None else int(updates),
        seconds=_seconds(read_jsonl(folder / "timing.jsonl")),
        steps=np.array([line["step"] * repeat for line in episodes]),
        scores=np.array([line["score"] for line in episodes], float),
    )


def groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that differ only in their seed, by seed."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        same = {key: value for key, value in run.config.items() if key not in FREE}
        together.setdefault(json.dumps(same, sort_keys=True), []).append(run)
    return [sorted(group, key=lambda run: run.config.get("seed", 0)) for group in together.values()]


def label(group: list[Run]) -> str:
    """What the folders of a group have in common: `logs/catch` of `logs/catch/seed-0`, …."""
    folders = [str(run.folder) for run in group]
    if len(folders) == 1:
        return folders[0]
    folders = [re.sub(r"\d+$", "", folder) for folder in folders]  # 1 and 10 share no digit
    same = itertools.takewhile(lambda letters: len({*letters}) == 1, zip(*folders, strict=False))
    common = "".join(letters[0] for letters in same)
    return re.sub(r"[-_./]*(seed)?[-_]*$", "", common) or group[0].environment


def _seconds(lines: list[dict[str, Any]]) -> float | None:
    times = [line["seconds"] for line in lines if line.get("seconds") is not None]
    return sum(times) if times else None
