"""Score curves of several runs in one picture."""

from pathlib import Path
from typing import Any

import numpy as np

from worldblocks.evaluate.compare.record import Run, label
from worldblocks.run.curve import COLOURS, DARK, say, style
from worldblocks.run.extras import extra

COLUMNS, POINTS = 3, 500


def draw(groups: list[list[Run]], path: Path) -> None:
    """Draw score against environment steps, with a panel per environment and a colour per group."""
    panels: dict[str, list[list[Run]]] = {}
    for group in groups:
        panels.setdefault(group[0].environment, []).append(group)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (max(8, 6 * columns), 4.6 * rows)
    figure = extra("matplotlib.figure", "compare").Figure(size, dpi=110, layout="constrained")
    extra("matplotlib.backends.backend_agg", "compare").FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, (name, here) in zip(axes, panels.items(), strict=False):
        panel.set_title(name, loc="left", weight="bold", color=DARK)
        _curves(panel, here)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _curves(axes: Any, groups: list[list[Run]]) -> None:
    style(axes, "score, mean of the last 10 episodes")
    drawn = False
    for place, group in enumerate(groups):
        colour, played = COLOURS[place % len(COLOURS)], [run for run in group if len(run.scores)]
        name = label(group) + (f" ({len(played)} seeds)" if len(played) > 1 else "")
        if len(played) == 1:
            axes.plot(played[0].steps, played[0].means, color=colour, lw=2.2, label=name)
        elif played:
            for run in played:
                axes.plot(run.steps, run.means, color=colour, lw=0.8, alpha=0.6)
            axes.plot(*_median(played), color=colour, lw=2.6, label=name)
        drawn = drawn or bool(played)
    if not drawn:
        say(axes, "no finished episode yet")
        axes.tick_params(bottom=False, labelbottom=False)
        return
    axes.set_xlabel("environment steps (actions × repeat)", color=DARK)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(extra("matplotlib.ticker", "compare").EngFormatter(sep=""))
    axes.legend(frameon=False, labelcolor=DARK)


def _median(runs: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Median curve over the steps that all runs cover."""
    begin, end = max(run.steps[0] for run in runs), min(run.steps[-1] for run in runs)
    x = np.linspace(begin, max(begin, end), POINTS)
    return x, np.median([np.interp(x, run.steps, run.means) for run in runs], axis=0)
