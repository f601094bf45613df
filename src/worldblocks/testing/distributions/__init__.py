"""Promises of distributions, and of regressions with the same interface."""

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

    The real numbers of an event are assumed to be independent given the parameters; for discrete
    ones (one-hots) all combinations are counted. Promises about `entropy` and `mode` are skipped
    where a distribution has none.

    Args:
        make: returns the output for raw parameters `*batch size`, which are any real numbers: map
            them to a positive standard deviation and the like.
        size: number of raw parameters of an element.
        target: `target(output)` returns a regression's prediction as a target; by default a sample.
        pathwise: True if samples have a gradient.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, size, target, pathwise), make, only, skip)
