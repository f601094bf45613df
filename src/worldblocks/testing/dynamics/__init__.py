"""Promises of dynamics blocks."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

from worldblocks.testing.dynamics import chance, learning, machine, order, resets
from worldblocks.testing.dynamics.case import Case, promise
from worldblocks.testing.promise import Names, Report

ROOMS = (resets, order, learning, chance, machine)
promise.order(ROOMS)


@promise.check
def check_dynamics(
    make: Callable[[], Any],
    *,
    embed_dim: int,
    action_dim: int,
    prior: Callable[[Any, Any], Any] | None = None,
    latent: Callable[[Any], Float[Tensor, "..."]] | None = None,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a dynamics block by its protocol (`worldblocks.rssm.Dynamics`) alone.

    The check builds several blocks, which should be small, and adds noise to their weights. In
    comparisons, samples drawn through `worldblocks.distributions` are replaced by modes. A block
    that draws otherwise is seeded, and must draw in the order of its steps.

    Args:
        make: returns a new block, a module.
        embed_dim: width of the embedding.
        action_dim: width of the action.
        prior: `prior(block, state)` returns the prior of a state, a distribution with `mean` and
            `sample()`. Without it three promises are skipped.
        latent: `latent(state)` returns the sampled part of a state, of the prior's shape.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, embed_dim, action_dim, prior, latent), make, only, skip)
