"""A table with a row per run, and the range of runs that differ only in their seed."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from worldblocks.evaluate.compare.picture import draw
from worldblocks.evaluate.compare.record import Run, find, groups, label, read
from worldblocks.run.extras import extra
from worldblocks.run.loop.progress import clock_text

LEFT, RIGHT = ("run", "recipe", "environment"), ("seed", "env steps", "updates", "last 10")


def compare(runs: Iterable[Path | str], output: Path | str | None = None) -> str:
    """A table with the progress and the scores of runs.

    `env steps` are actions times `repeat`, as counted by published curves. `last 10` is the mean
    score of the last ten training episodes, `best 10` the highest mean of ten consecutive ones.
    `time` is the run time of all processes up to their last line in `timing.jsonl`. Runs that
    differ only in their seed get a line with minimum – median – maximum. A run with several tasks
    has a row, and a panel, for each: scores of different environments are not averaged.

    Args:
        runs: Run folders, or folders that contain some (`seed-0`, `seed-1`, …).
        output: Path of a picture: score against environment steps, with a panel per environment, a
            thin line per seed and a thick line for the median of a group.

    Raises:
        FileNotFoundError: A folder contains no run.
        ValueError: A file of a run is malformed.
    """
    found = groups(run for folder in find(runs) for run in read(folder))
    if output is not None:
        draw(found, Path(output))
    table = extra("rich.table", "compare").Table(box=extra("rich.box", "compare").SIMPLE_HEAD)
    for name in LEFT:
        table.add_column(name, no_wrap=True)
    for name in (*RIGHT, "best 10", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for group in found:
        for run in group:
            table.add_row(*_row(run))
        if len(group) > 1:
            table.add_row(*_spread(group))
        table.add_section()
    console = extra("rich.console", "compare").Console(file=io.StringIO(), width=1000)
    console.print(table)
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip().removeprefix(" ") for line in lines if line.strip())


def _row(run: Run) -> list[str]:
    scores = ["no episodes yet", "–"]
    if len(run.scores):
        scores = [_number(run.means[-1]), _number(run.best)]
    return [
        *(str(run.folder), str(run.config.get("recipe", "-")), run.environment),
        *(str(run.config.get("seed", "-")), f"{run.step:,}"),
        "–" if run.updates is None else f"{run.updates:,}",
        *scores,
        "–" if run.seconds is None else clock_text(run.seconds),
    ]


def _spread(group: list[Run]) -> list[str]:
    """The row with minimum, median and maximum of a group."""
    played = [run for run in group if len(run.scores)]
    scores = ["–", "–"]
    if played:
        columns = [run.means[-1] for run in played], [run.best for run in played]
        scores = [" – ".join(map(_number, np.percentile(c, (0, 50, 100)))) for c in columns]
    return [label(group), "", "", f"{len(group)} seeds", "", "", *scores, ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
