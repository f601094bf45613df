"""Known answers for other people's agents: small environments, and the ladder they make."""

from worldblocks.testing.images import Catch, Grid
from worldblocks.testing.ladder import (
    RUNGS,
    Result,
    Rung,
    climb,
    format_ladder,
    mean_score,
    random_policy,
)
from worldblocks.testing.worlds import Bandit, Delayed, First, Memory, Scaled, Target

__all__ = [
    "RUNGS",
    "Bandit",
    "Catch",
    "Delayed",
    "First",
    "Grid",
    "Memory",
    "Result",
    "Rung",
    "Scaled",
    "Target",
    "climb",
    "format_ladder",
    "mean_score",
    "random_policy",
]
