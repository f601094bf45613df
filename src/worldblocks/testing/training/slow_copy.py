"""What a slow copy of a module promises."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from worldblocks.testing.promise import Names, Promises, Report
from worldblocks.testing.promise.compare import cloned, expect, expect_equal, seeded

promise = Promises()


class Case:
    """A slow copy of a small network, and its rate."""

    def __init__(self, make: Callable[[nn.Module], Any], rate: float) -> None:
        self.make, self.rate = make, rate

    def pair(self) -> tuple[nn.Module, Any]:
        """A source and its copy."""
        with seeded():
            source = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            return source, self.make(source)

    def moved(self) -> tuple[nn.Module, Any]:
        """The same after the source has learnt something."""
        source, slow = self.pair()
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.add_(1.0)
        return source, slow


def weights(module: nn.Module) -> list[Tensor]:
    """The parameters, in order."""
    return [p.detach() for p in module.parameters()]


X = torch.linspace(-1, 1, 6).view(2, 3)


@promise("copies", "A new copy computes what its source does, in memory of its own.", "deepcopy")
def copies(case: Case) -> None:
    source, slow = case.pair()
    expect_equal(slow(X), source(X), "a new copy computes something else", allowed=0.0)
    before = cloned(slow(X))
    with torch.no_grad():
        next(source.parameters()).add_(1.0)
    expect_equal(slow(X), before, "the copy changed with its source, before an update", allowed=0.0)


@promise(
    "rate", "An update moves every weight by `rate` of the way.", "the rate; calls of update()"
)
def rate(case: Case) -> None:
    source, slow = case.moved()
    for _ in range(3):
        told = [
            torch.lerp(p, q, case.rate) for p, q in zip(weights(slow), weights(source), strict=True)
        ]
        slow.update(source)
        what = f"an update did not move the weights by {case.rate} of the way"
        expect_equal(weights(slow), told, what, allowed=1e-6)


@promise("source-stays", "An update does not change its source.", "the order of arguments of lerp")
def source_stays(case: Case) -> None:
    source, slow = case.moved()
    before = cloned(weights(source))
    slow.update(source)
    expect_equal(weights(source), before, "an update changed its source", allowed=0.0)


@promise("takes-no-gradient", "The copy's weights take no gradient.", "requires_grad_(False)")
def takes_no_gradient(case: Case) -> None:
    _, slow = case.pair()
    expect(not any(p.requires_grad for p in slow.parameters()), "a weight of the copy is trained")
    x = X.clone().requires_grad_()
    slow(x).sum().backward()
    expect(all(p.grad is None for p in slow.parameters()), "a weight of the copy has a gradient")


@promise("saves", "A copy that loads the state dict of another is the other.", "buffers")
def saves(case: Case) -> None:
    source, slow = case.moved()
    slow.update(source)
    _, other = case.pair()
    other.load_state_dict(slow.state_dict())
    expect_equal(other(X), slow(X), "a copy with the same state dict is another", allowed=0.0)


@promise.check
def check_slow_copy(
    make: Callable[[nn.Module], Any],
    *,
    rate: float,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a slow copy of a module: called like its source, and `update(source)` follows it.

    Args:
        make: `make(source)` gives the copy.
        rate: share of the source in an update.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, rate), make, only, skip)
