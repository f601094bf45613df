"""Stochastic parts of a recurrent state-space model."""

from worldblocks.rssm.latents.categorical import CategoricalLatent
from worldblocks.rssm.latents.gaussian import GaussianLatent
from worldblocks.rssm.latents.networks import PriorPosterior

__all__ = ["CategoricalLatent", "GaussianLatent", "PriorPosterior"]
