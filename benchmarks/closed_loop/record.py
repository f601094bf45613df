"""The files of a run: `updates.jsonl`, `episodes.jsonl` and, once it is finished, `times.json`.

Both sides write them, in their own interpreters, so this needs NumPy alone.
"""

import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.closed_loop.games import SIDES

Line = dict[str, float]


class Record:
    """Writes the files of a run and measures it. Times are in seconds.

    Attributes:
        step: environment steps until now, which count rows: a reset is one.
        updates: updates until now.
        times: `policy` and `policy_cpu` of acting, `train` and `train_cpu` of updates, and `extra`
            and `extra_cpu` of what is computed only for this record.
    """

    def __init__(self, out: str) -> None:
        self.folder, self.step, self.updates = Path(out), 0, 0
        self.times = dict.fromkeys(("policy", "policy_cpu", "train", "train_cpu"), 0.0)
        self.times |= {"extra": 0.0, "extra_cpu": 0.0, "n_policy": 0}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._updates = (self.folder / "updates.jsonl").open("w", encoding="utf-8")
        self._episodes = (self.folder / "episodes.jsonl").open("w", encoding="utf-8")
        self._began = 0.0, 0.0

    def begin(self) -> None:
        """Start the clock, when the agent is built."""
        self._began = time.perf_counter(), time.process_time()

    def timed(self, what: str, function: Callable) -> Callable:
        """The function, its time added to `what`."""

        def call(*arguments: Any, **options: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            result = function(*arguments, **options)
            self.times[what] += time.perf_counter() - wall
            self.times[f"{what}_cpu"] += time.process_time() - cpu
            return result

        return call

    def update(self, number: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an update; they arrive at `step`."""
        self.updates += 1
        line = {"update": number, "step": self.step, **metrics}
        self._updates.write(json.dumps(line) + "\n")

    def episode(self, score: float, length: int) -> None:
        """Write a finished episode."""
        line = {"step": self.step, "score": float(score), "length": int(length)}
        self._episodes.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the files."""
        self._updates.close()
        self._episodes.close()

    def finish(self) -> None:
        """Close the files and write the times: from now on the run is finished."""
        wall, cpu = self._began
        total = {"total": time.perf_counter() - wall, "cpu_total": time.process_time() - cpu}
        self.close()
        counts = {"steps": self.step, "updates": self.updates}
        text = json.dumps({**self.times, **total, **counts})
        (self.folder / "times.json").write_text(text, encoding="utf-8")

    def provenance(self, facts: Mapping[str, Any]) -> None:
        """Write where the run comes from."""
        text = json.dumps(facts, indent=1)
        (self.folder / "provenance.json").write_text(text + "\n", encoding="utf-8")


class Run(NamedTuple):
    """One finished run.

    Attributes:
        updates: lines of `updates.jsonl`, in order.
        episodes: step at its end, and score.
        times: of `times.json`.
        provenance: of `provenance.json`; empty where there is none.
    """

    updates: list[Line]
    episodes: np.ndarray
    times: dict[str, float]
    provenance: dict[str, Any]


def read(folder: Path) -> dict[str, dict[int, Run]]:
    """The finished runs by side and seed.

    Raises:
        FileNotFoundError: a side has none.
        ValueError: they differ in their number of steps.
    """
    found: dict[str, dict[int, Run]] = {side: {} for side in SIDES}
    for side, path in itertools.product(SIDES, folder.glob("*/times.json")):
        name, _, seed = path.parent.name.rpartition("-")
        if name == side and seed.isdecimal():
            found[side][int(seed)] = read_run(path.parent)
    found = {side: dict(sorted(runs.items())) for side, runs in found.items()}
    for side, runs in found.items():
        if not runs:
            raise FileNotFoundError(
                f"{folder} has no finished run of {side}: folders such as {side}-0 with times.json "
                f"are compared; without --compare the command makes them"
            )
    steps = {run.times["steps"] for runs in found.values() for run in runs.values()}
    if len(steps) > 1:
        raise ValueError(
            f"the runs in {folder} have {', '.join(map(str, sorted(steps)))} steps; only runs of "
            f"equal length are compared, so move the others away"
        )
    return found


def read_run(folder: Path) -> Run:
    """The record of a finished run."""
    lines, episodes = (
        [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        for name in ("updates.jsonl", "episodes.jsonl")
    )
    ends = np.array([[one["step"], one["score"]] for one in episodes]).reshape(-1, 2)
    path = folder / "provenance.json"
    origin = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    times = json.loads((folder / "times.json").read_text(encoding="utf-8"))
    return Run(lines, ends, times, origin)


def origin(runs: dict[int, Run]) -> dict[str, Any]:
    """Dates, commits, machines and versions of the runs of a side; a list where they differ."""
    found: dict[str, Any] = {}
    for name in ("date", "commit", "changed", "official", "machine", "versions", "settings"):
        known = [run.provenance[name] for run in runs.values() if name in run.provenance]
        several = [one for i, one in enumerate(known) if one not in known[:i]]
        if several:
            found[name] = several[0] if len(several) == 1 else several
    return found
