"""A row for each run, and the spread of those that differ only in their seed."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from worldblocks.evaluate.compare.picture import draw
from worldblocks.evaluate.compare.record import Run, find, groups, label, read
from worldblocks.run.extras import extra
from worldblocks.run.progress import clock_text

LEFT, RIGHT = ("run", "recipe", "environment"), ("seed", "env steps", "updates", "last 10")


def compare(runs: Iterable[Path | str], output: Path | str | None = None) -> str:
    """A table of runs: how far each came, and its scores.

    `env steps` are actions times the configuration's `repeat`, as published curves count
    them. `last 10` is the mean score of the last ten training episodes, `best 10` the highest mean
    of ten in a row, `time` what the processes of the run took up to their last line of timing. Runs
    that differ only in their seed get a line with minimum – median – maximum.

    Args:
        runs: Run folders, or folders that hold some (`seed-0`, `seed-1`, …).
        output: A picture to write: score against environment steps, each seed a thin line, the
            median of its group a thick one, a panel for each environment.

    Raises:
        FileNotFoundError: There is no run in one of the folders.
        ValueError: A file of a run is not what a run writes.
    """
    found = groups([read(folder) for folder in find(runs)])
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
    """Minimum, median and maximum of a group."""
    played = [run for run in group if len(run.scores)]
    scores = ["–", "–"]
    if played:
        columns = [run.means[-1] for run in played], [run.best for run in played]
        scores = [" – ".join(map(_number, np.percentile(c, (0, 50, 100)))) for c in columns]
    return [label(group), "", "", f"{len(group)} seeds", "", "", *scores, ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
