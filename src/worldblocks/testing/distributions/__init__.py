"""What a distribution, or a regression that is read like one, promises."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor

from worldblocks.testing.distributions import losses, samples
from worldblocks.testing.distributions.case import Case, promise
from worldblocks.testing.promise import Names, Report

ROOMS = (losses, samples)
promise.order(ROOMS, first="shape")


@promise.check
def check_distribution(
    make: Callable[[Float[Tensor, "batch time size"]], Any],
    *,
    size: int,
    target: Callable[[Any], Shaped[Tensor, "..."]] | None = None,
    pathwise: bool = True,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a distribution, or a regression: an output with `mean` and `nll`, which can be sliced.

    The numbers of one event are taken to be independent given the parameters, but for groups of
    finitely many values (one-hots), of which all combinations are looked at. A distribution without
    `entropy` or without `mode`, where there is no closed form, is not asked for it.

    Args:
        make: gives the output of raw parameters `*batch size`, any real numbers: where a deviation
            must be positive, make it so.
        size: how many raw numbers an element has.
        target: `target(output)` gives what a regression predicts as a target; for a distribution
            its samples serve.
        pathwise: whether samples have a gradient.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, size, target, pathwise), make, only, skip)
