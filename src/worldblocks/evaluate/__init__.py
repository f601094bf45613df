"""One way to play and to judge: episodes of a policy, their scores, runs side by side."""

from worldblocks.evaluate.compare import compare
from worldblocks.evaluate.published import (
    Episodes,
    Published,
    plot_published,
    read_episodes,
    read_published,
    score_curves,
)
from worldblocks.evaluate.scores import Interval, binned_scores, first_hit, iqm, iqm_interval

__all__ = [
    "Episodes",
    "Interval",
    "Published",
    "binned_scores",
    "compare",
    "first_hit",
    "iqm",
    "iqm_interval",
    "plot_published",
    "read_episodes",
    "read_published",
    "score_curves",
]
