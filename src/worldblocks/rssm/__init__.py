"""Recurrent state-space models: a dynamics block made of a core and a latent.

`imagine` and `rollout` work on any block that keeps the protocol `Dynamics`. An `RSSM` takes any
core and any latent that keep the protocols `Core` and `Latent`.
"""

from worldblocks.rssm.cores import GRU, BlockGRU
from worldblocks.rssm.imagination import frozen, imagine, rollout
from worldblocks.rssm.latents import CategoricalLatent, GaussianLatent, PriorPosterior
from worldblocks.rssm.model import RSSM
from worldblocks.rssm.named import dreamer_rssm, gaussian_rssm, gru_rssm
from worldblocks.rssm.protocols import AnyState, Core, Dynamics, Latent
from worldblocks.rssm.state import Acting, Carry, Dropped, Packed, State

__all__ = [
    "GRU",
    "RSSM",
    "Acting",
    "AnyState",
    "BlockGRU",
    "Carry",
    "CategoricalLatent",
    "Core",
    "Dropped",
    "Dynamics",
    "GaussianLatent",
    "Latent",
    "Packed",
    "PriorPosterior",
    "State",
    "dreamer_rssm",
    "frozen",
    "gaussian_rssm",
    "gru_rssm",
    "imagine",
    "rollout",
]
