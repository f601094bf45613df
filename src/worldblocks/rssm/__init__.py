"""Recurrent state-space models: a dynamics block made of a core and a latent.

A dynamics block keeps the protocol `initial / observe_step / observe / imagine_step / feature_dim`;
`imagine` and `rollout` work on any block that does. An `RSSM` takes any core and any latent that
keep the protocols `Core` and `Latent`.
"""

from worldblocks.rssm.cores import GRU, BlockGRU
from worldblocks.rssm.gaussian import GaussianCarry, GaussianState
from worldblocks.rssm.imagination import Dynamics, frozen, imagine, rollout
from worldblocks.rssm.latents import CategoricalLatent, GaussianLatent
from worldblocks.rssm.model import RSSM
from worldblocks.rssm.named import dreamer_rssm, gaussian_rssm, gru_rssm
from worldblocks.rssm.networks import PriorPosterior
from worldblocks.rssm.protocols import Acting, AnyCarry, AnyState, Core, Latent
from worldblocks.rssm.state import Carry, Packed, State

__all__ = [
    "GRU",
    "RSSM",
    "Acting",
    "AnyCarry",
    "AnyState",
    "BlockGRU",
    "Carry",
    "CategoricalLatent",
    "Core",
    "Dynamics",
    "GaussianCarry",
    "GaussianLatent",
    "GaussianState",
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
