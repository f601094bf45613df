"""Environments behind one small protocol, and a vector that steps and resets several of them.

An environment gives NumPy arrays; the vector turns them into torch tensors.
Each factory imports its simulator when it is called; importing this module loads none of them.

The folders have the names of their factories. `wb.envs.atari` is the function: importing a folder
binds its name here once, and the imports below bind the function after that.
"""

from worldblocks.envs.atari.ale import Atari, atari
from worldblocks.envs.atari.games import atari_games
from worldblocks.envs.atari.image import atari_image
from worldblocks.envs.crafter import crafter
from worldblocks.envs.dm_env import DmEnvironment, dm_env
from worldblocks.envs.dmc.bodies import BODIES, Body, ControlText, dmc_features
from worldblocks.envs.dmc.control import dmc
from worldblocks.envs.features import Describer, Feature, Featured, Goal, split_features
from worldblocks.envs.gym.description import spaces_of
from worldblocks.envs.gym.gymnasium import gym
from worldblocks.envs.minigrid.babyai_text import MiniGridText
from worldblocks.envs.minigrid.grids import minigrid
from worldblocks.envs.named import make
from worldblocks.envs.record import Environment, Episode, NotRestored, Rows, Step
from worldblocks.envs.vector.failure import Failure
from worldblocks.envs.vector.reenact import ActionLog, reenact
from worldblocks.envs.vector.vector import EnvVector

__all__ = [
    "BODIES",
    "ActionLog",
    "Atari",
    "Body",
    "ControlText",
    "Describer",
    "DmEnvironment",
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
    "dm_env",
    "dmc",
    "dmc_features",
    "gym",
    "make",
    "minigrid",
    "reenact",
    "spaces_of",
    "split_features",
]
