"""Promises of slow copies of a module."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from worldblocks.testing.promise import Names, Promises, Report
from worldblocks.testing.promise.compare import cloned, expect, expect_equal, seeded

promise = Promises()


class Case(NamedTuple):
    """The factory of a slow copy, and its rate."""

    make: Callable[[nn.Module], Any]
    rate: float

    def pair(self) -> tuple[nn.Module, Any]:
        """A small network and its copy."""
        with seeded():
            source = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            return source, self.make(source)

    def moved(self) -> tuple[nn.Module, Any]:
        """The same after the weights of the network changed."""
        source, slow = self.pair()
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.add_(1.0)
        return source, slow


def weights(module: nn.Module) -> list[Tensor]:
    """The parameters, in order."""
    return [p.detach() for p in module.parameters()]


X = torch.linspace(-1, 1, 6).view(2, 3)


@promise("copies", "A new copy equals its source and shares no memory with it.", "deepcopy")
def copies(case: Case) -> None:
    source, slow = case.pair()
    expect_equal(slow(X), source(X), "a new copy computes something else", allowed=0.0)
    before = cloned(slow(X))
    with torch.no_grad():
        next(source.parameters()).add_(1.0)
    expect_equal(slow(X), before, "the copy changed with its source before an update", allowed=0.0)


@promise(
    "rate",
    "An update interpolates every weight by `rate`.",
    "the rate, and calls of update()",
)
def rate(case: Case) -> None:
    source, slow = case.moved()
    for _ in range(3):
        expected = [
            torch.lerp(p, q, case.rate) for p, q in zip(weights(slow), weights(source), strict=True)
        ]
        slow.update(source)
        what = f"an update did not interpolate the weights by {case.rate}"
        expect_equal(weights(slow), expected, what, allowed=1e-6)


@promise("source-stays", "An update does not change its source.", "the order of arguments of lerp")
def source_stays(case: Case) -> None:
    source, slow = case.moved()
    before = cloned(weights(source))
    slow.update(source)
    expect_equal(weights(source), before, "an update changed its source", allowed=0.0)


@promise("takes-no-gradient", "The weights of the copy have no gradient.", "requires_grad_(False)")
def takes_no_gradient(case: Case) -> None:
    _, slow = case.pair()
    expect(
        not any(p.requires_grad for p in slow.parameters()),
        "a weight of the copy requires grad",
    )
    x = X.clone().requires_grad_()
    slow(x).sum().backward()
    expect(all(p.grad is None for p in slow.parameters()), "a weight of the copy has a gradient")


@promise("saves", "Two copies with the same state dict compute the same.", "buffers")
def saves(case: Case) -> None:
    source, slow = case.moved()
    slow.update(source)
    _, other = case.pair()
    other.load_state_dict(slow.state_dict())
    expect_equal(other(X), slow(X), "a copy with the same state dict differs", allowed=0.0)


@promise.check
def check_slow_copy(
    make: Callable[[nn.Module], Any],
    *,
    rate: float,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a slow copy of a module: a call is that of the source, `update(source)` follows it.

    Args:
        make: `make(source)` returns the copy.
        rate: weight of the source in an update.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, rate), make, only, skip)
