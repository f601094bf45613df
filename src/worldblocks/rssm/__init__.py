"""Recurrent state-space models: a dynamics block made of a core and a latent.

A dynamics block keeps the protocol `initial / observe_step / observe / imagine_step / feature_dim`;
`imagine` and `rollout` work on any block that does.
"""

from worldblocks.rssm.cores import BlockGRU
from worldblocks.rssm.imagination import Dynamics, frozen, imagine, rollout
from worldblocks.rssm.latents import CategoricalLatent
from worldblocks.rssm.model import RSSM, dreamer_rssm
from worldblocks.rssm.state import Carry, Packed, State

__all__ = [
    "RSSM",
    "BlockGRU",
    "Carry",
    "CategoricalLatent",
    "Dynamics",
    "Packed",
    "State",
    "dreamer_rssm",
    "frozen",
    "imagine",
    "rollout",
]
