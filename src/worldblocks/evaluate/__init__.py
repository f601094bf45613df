"""Evaluation: play episodes, summarise scores, compare runs and published curves."""

from worldblocks.evaluate.checks import Check, format_report, verdict, write_report
from worldblocks.evaluate.compare import compare
from worldblocks.evaluate.episodes import LONGEST, Stopped, collect, play
from worldblocks.evaluate.policies import AgentPolicy, random_policy
from worldblocks.evaluate.published import (
    Episodes,
    Published,
    plot_published,
    read_episodes,
    read_published,
    score_curves,
)
from worldblocks.evaluate.scores import (
    Interval,
    binned_scores,
    first_hit,
    iqm,
    iqm_interval,
    summary,
    wilson,
)

__all__ = [
    "LONGEST",
    "AgentPolicy",
    "Check",
    "Episodes",
    "Interval",
    "Published",
    "Stopped",
    "binned_scores",
    "collect",
    "compare",
    "first_hit",
    "format_report",
    "iqm",
    "iqm_interval",
    "play",
    "plot_published",
    "random_policy",
    "read_episodes",
    "read_published",
    "score_curves",
    "summary",
    "verdict",
    "wilson",
    "write_report",
]
