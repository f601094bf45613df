"""What a dynamics block promises."""

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

    The block is made anew several times, in modest size, and all its weights are moved a little by
    noise. Where it samples through `worldblocks.distributions`, its samples stand still for a
    comparison; where it draws by itself, it draws from the same seed each time, and must do so in
    the order of its steps.

    Args:
        make: gives a new block, a module.
        embed_dim: width of the embedding it observes.
        action_dim: width of its action.
        prior: `prior(block, state)` gives what the block expects at a state before its observation:
            a distribution with `mean` and `sample()`. Without it three promises are skipped.
        latent: `latent(state)` gives the sampled part of a state, of the prior's shape.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, embed_dim, action_dim, prior, latent), make, only, skip)
