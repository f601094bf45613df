"""The learning curve of a run: `wb.run.plot_curve` and `python -m worldblocks.run.curve RUN`."""

from worldblocks.run.curve.picture import (
    BLUE,
    COLOURS,
    DARK,
    GREY,
    plot_curve,
    running_mean,
    say,
    style,
)

__all__ = ["BLUE", "COLOURS", "DARK", "GREY", "plot_curve", "running_mean", "say", "style"]
