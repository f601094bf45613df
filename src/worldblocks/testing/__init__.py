"""Tests for your own blocks and agents.

Conformance checks (`check_dynamics` and its siblings), hypothesis strategies for the inputs of
blocks, and known-answer environments with a ladder of them.
"""

from worldblocks.testing.agent import check_agent
from worldblocks.testing.distributions import check_distribution
from worldblocks.testing.dynamics import check_dynamics
from worldblocks.testing.envs.env import check_env
from worldblocks.testing.envs.vector import check_vector
from worldblocks.testing.episodes import Trajectory, trajectories
from worldblocks.testing.language import ScriptedLM
from worldblocks.testing.modules.decoder import check_decoder
from worldblocks.testing.modules.encoder import check_encoder
from worldblocks.testing.modules.head import check_head
from worldblocks.testing.promise import BrokenPromise, Promise, Report, promises, suite
from worldblocks.testing.replay import check_replay
from worldblocks.testing.strategies import (
    action_spaces,
    actions,
    batches,
    carries,
    images,
    observations,
    parameters,
    vectors,
)
from worldblocks.testing.training.kl import check_kl
from worldblocks.testing.training.normalizer import check_normalizer
from worldblocks.testing.training.optimizer import check_optimizer
from worldblocks.testing.training.returns import check_return
from worldblocks.testing.training.slow_copy import check_slow_copy
from worldblocks.testing.worlds.ladder import RUNGS, Result, Rung, climb, format_ladder
from worldblocks.testing.worlds.pixels import Catch, Grid
from worldblocks.testing.worlds.vectors import Bandit, Delayed, First, Memory, Scaled, Target

__all__ = [
    "RUNGS",
    "Bandit",
    "BrokenPromise",
    "Catch",
    "Delayed",
    "First",
    "Grid",
    "Memory",
    "Promise",
    "Report",
    "Result",
    "Rung",
    "Scaled",
    "ScriptedLM",
    "Target",
    "Trajectory",
    "action_spaces",
    "actions",
    "batches",
    "carries",
    "check_agent",
    "check_decoder",
    "check_distribution",
    "check_dynamics",
    "check_encoder",
    "check_env",
    "check_head",
    "check_kl",
    "check_normalizer",
    "check_optimizer",
    "check_replay",
    "check_return",
    "check_slow_copy",
    "check_vector",
    "climb",
    "format_ladder",
    "images",
    "observations",
    "parameters",
    "promises",
    "suite",
    "trajectories",
    "vectors",
]
