"""Environments behind one small protocol, and a vector of them with resets of its own.

Observations are NumPy arrays on the environment's side and torch tensors at the door of the vector.
A simulator is imported by the factory that needs it, so that this module brings in none of them.
"""

from worldblocks.envs.ale import Atari, atari, atari_games
from worldblocks.envs.babyai_text import MiniGridText
from worldblocks.envs.bodies import BODIES, Body, ControlText, dmc_features
from worldblocks.envs.control import dmc
from worldblocks.envs.crafter import crafter
from worldblocks.envs.failure import Failure
from worldblocks.envs.features import Describer, Feature, Featured, Goal, split_features
from worldblocks.envs.grids import minigrid
from worldblocks.envs.gymnasium import gym
from worldblocks.envs.pixels import atari_image
from worldblocks.envs.record import Environment, Episode, NotRestored, Rows, Step
from worldblocks.envs.reenact import ActionLog, reenact
from worldblocks.envs.vector import EnvVector

__all__ = [
    "BODIES",
    "ActionLog",
    "Atari",
    "Body",
    "ControlText",
    "Describer",
    "EnvVector",
    "Environment",
    "Episode",
    "Failure",
    "Feature",
    "Featured",
    "Goal",
    "MiniGridText",
    "NotRestored",
    "Rows",
    "Step",
    "atari",
    "atari_games",
    "atari_image",
    "crafter",
    "dmc",
    "dmc_features",
    "gym",
    "minigrid",
    "reenact",
    "split_features",
]
