"""Promises of a balanced KL."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.testing.promise import Names, Promises, Report, for_all
from worldblocks.testing.promise.compare import (
    SAME,
    expect,
    expect_compiles,
    expect_equal,
    expect_zero,
    gradients,
    seeded,
    weighted,
)
from worldblocks.testing.promise.statistics import expect_mean
from worldblocks.testing.strategies import parameters

promise = Promises()
NAMES = ("dyn", "rep")
BATCH, TIME = 3, 2
DRAWS = 4000
Pair = tuple[Tensor, Tensor]


class Case(NamedTuple):
    """A KL and the raw parameters of its two distributions."""

    function: Callable[..., Pair]
    distribution: Callable[[Tensor], Any]
    size: tuple[int, ...]

    def kl(self, post: Tensor, prior: Tensor, free_nats: float) -> Pair:
        """The two losses for raw parameters."""
        both = (self.distribution(raw) for raw in (post, prior))
        return self.function(*both, free_nats=free_nats)

    def raw(self, seed: int) -> Tensor:
        """Raw parameters `batch time ...`."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(BATCH, TIME, *self.size, generator=generator)


@promise("shape", "Each loss has one number for each row.", "the axes of the sum")
def shape(case: Case) -> None:
    for name, loss in zip(NAMES, case.kl(case.raw(0), case.raw(1), 1.0), strict=True):
        expect(loss.shape == (BATCH, TIME), f"{name} has shape {tuple(loss.shape)}")


@promise(
    "monte-carlo",
    "Without free nats both losses are KL(post || prior), the mean of log post - log prior over "
    "samples of the posterior.",
    "the direction of the KL, sums over groups, and unimix in both distributions",
)
def monte_carlo(case: Case) -> None:
    post, prior = case.raw(0), case.raw(1)
    with seeded(), torch.no_grad():
        many = [x[:1, 0].expand(DRAWS, *case.size) for x in (post, prior)]
        ours, theirs = (case.distribution(x) for x in many)
        drawn = ours.sample()
        samples = (ours.log_prob(drawn) - theirs.log_prob(drawn))[:, None]
    for name, loss in zip(NAMES, case.kl(post, prior, 0.0), strict=True):
        expect_mean(samples, loss[0, :1].detach(), f"{name} is not the KL")


@promise("equal-is-free", "Losses of equal distributions are the free nats.", "max(KL, free nats)")
def equal_is_free(case: Case) -> None:
    for nats in (0.0, 1.0):
        for name, loss in zip(NAMES, case.kl(case.raw(0), case.raw(0), nats), strict=True):
            what = f"{name} of equal distributions with {nats} free nats"
            expect_equal(loss, torch.full_like(loss, nats), what, allowed=1e-5)


@promise(
    "free-nats-by-element",
    "The free nats apply to each row of each element, not to a sum or mean.",
    "the order: sum over groups, then the floor, then (in the recipe) the mean of the batch",
)
def free_nats_by_element(case: Case) -> None:
    post, prior = case.raw(0), case.raw(0)
    prior[0, 0] = case.raw(1)[0, 0] * 3
    prior[1, 0, 0] = case.raw(1)[1, 0, 0] * 3  # part of a row differs, the rest is equal
    exact, nats = case.kl(post, prior, 0.0), 0.3
    for name, loss, kl in zip(NAMES, case.kl(post, prior, nats), exact, strict=True):
        expected = kl.clamp(min=nats)
        expect_equal(loss, expected, f"{name} is not max(KL, {nats}) of each row", allowed=1e-5)


@promise(
    "dyn-trains-the-prior",
    "The first loss trains only the prior, the second only the posterior.",
    "the two stop-gradients",
)
def dyn_trains_the_prior(case: Case) -> None:
    post, prior = (case.raw(seed).requires_grad_() for seed in (0, 1))
    for name, other, loss in zip(NAMES, NAMES[::-1], case.kl(post, prior, 0.0), strict=True):
        found = dict(zip(NAMES, gradients(weighted([loss]), [prior, post]), strict=True))
        whose = {"dyn": "prior", "rep": "posterior"}
        what = f"{name} has no gradient with respect to the {whose[name]}"
        expect(bool(found[name].ne(0).any()), what)
        what = f"{name} has a gradient with respect to the {whose[other]}"
        expect_zero(found[other], what)


@promise(
    "slope",
    "The gradient of each loss matches finite differences.",
    "a stop-gradient inside the KL on the distribution that should be trained",
)
def slope(case: Case) -> None:
    step = 1e-2
    direction = case.raw(2)
    for place, name in enumerate(NAMES):
        trained = (1, 0)[place]

        def loss(raw: Tensor, place: int = place, trained: int = trained) -> Tensor:
            both = [case.raw(0), case.raw(1)]
            both[trained] = raw
            return case.kl(both[0], both[1], 0.0)[place]

        at = case.raw(trained).requires_grad_()
        out = loss(at).sum()
        expect(out.requires_grad, f"{name} has no gradient at all")
        ours = (torch.autograd.grad(out, at)[0] * direction).sum((*range(2, at.ndim),))
        at = at.detach()
        expected = (loss(at + step * direction) - loss(at - step * direction)) / (2 * step)
        what = f"the gradient of {name} differs from finite differences"
        expect_equal(ours, expected, what, allowed=1e-2)


@promise(
    "free-nats-stop-gradients",
    "A loss at its free nats has a gradient of exactly 0.",
    "clamp or maximum, not a subtraction",
)
def free_nats_stop_gradients(case: Case) -> None:
    post, prior = (case.raw(seed).requires_grad_() for seed in (0, 1))
    for name, loss in zip(NAMES, case.kl(post, prior, 1e6), strict=True):
        expect_equal(loss, torch.full_like(loss, 1e6), f"{name} is not at its floor")
        found = gradients(loss.sum(), [post, prior])
        expect_zero(found, f"{name} has a gradient although it is at its free nats")


@promise("batch", "Elements of a batch are independent.", "means over the batch axis")
def batch(case: Case) -> None:
    post, prior, other = case.raw(0), case.raw(1), case.raw(2)
    mixed = torch.cat([post[:1], other[1:]])
    for name, ours, theirs in zip(
        NAMES, case.kl(mixed, prior, 0.1), case.kl(post, prior, 0.1), strict=True
    ):
        expect_equal(
            ours[:1], theirs[:1], f"{name} of element 0 changed with another", allowed=SAME
        )


@promise(
    "extremes",
    "Parameters from 1e-30 to 1e30 give finite losses and gradients.",
    "logarithms of zero probabilities",
)
def extremes(case: Case) -> None:
    def body(raw: Tensor) -> None:
        post, prior = (x.clone().requires_grad_() for x in (raw, raw.flip(0)))
        losses = case.kl(post, prior, 1.0)
        found = gradients(weighted(losses), [post, prior])
        for x in (*losses, *found):
            expect(bool(x.isfinite().all()), "a loss or gradient is not finite")
        expect(all(bool((x >= 1.0).all()) for x in losses), "a loss is below its free nats")

    for_all(parameters(BATCH, TIME, *case.size), body)


@promise("compiles", "The KL compiles to one graph with its eager results.", "Python branches")
def compiles(case: Case) -> None:
    given = [case.raw(0), case.raw(1)]
    expect_compiles(lambda post, prior: case.kl(post, prior, 0.5), given, "the KL")


@promise.check
def check_kl(
    kl: Callable[..., tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]],
    *,
    distribution: Callable[[Float[Tensor, "batch time ..."]], Any],
    size: tuple[int, ...],
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a balanced KL, `kl(post, prior, free_nats=...) -> (dyn, rep)`, of two distributions.

    Wrap a KL that takes logits, or means and standard deviations, in a function that reads them
    from the distributions.

    Args:
        kl: returns the two losses, `batch time` each, not reduced.
        distribution: returns an argument of `kl`, with `sample` and `log_prob`, for raw parameters
            `batch time *size`, which are any real numbers.
        size: shape of the raw parameters of one row.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(kl, distribution, size), kl, only, skip)
