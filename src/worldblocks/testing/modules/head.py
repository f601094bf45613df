"""Promises of heads."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldblocks.testing.modules import module
from worldblocks.testing.promise import Names, Promises, Report, Violation
from worldblocks.testing.promise.compare import expect, perturbed, seeded, steady

promise = Promises()
BATCH, TIME = 3, 4
STEPS = 200
NEAR = 0.1  # relative error that may remain after training


class Case(module.ModuleCase):
    """A head, its features, and targets to learn."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        feature_dim: int,
        target: Callable[..., Tensor],
        read: Callable[[Any], Tensor],
    ) -> None:
        self.make, self.feature_dim, self.target, self.read = make, feature_dim, target, read
        self.module = perturbed(make)
        with seeded(3):
            self._target = target(1)[0]  # the same for every row

    def inputs(self, seed: int = 0) -> Tensor:
        """Random features `batch time feature`."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(BATCH, TIME, self.feature_dim, generator=generator)

    def call(self, module: Any, inputs: Tensor) -> list[Tensor]:
        """The loss of a fixed target, and the mean."""
        output = module(inputs)
        target = self._target.expand(*inputs.shape[:-1], *self._target.shape).contiguous()
        return [output.nll(target.to(inputs.device)), output.mean]


promise.include(module.promise, "axes")


@promise("loss-by-row", "The loss has one number for each row.", "the axes of the loss's sum")
def loss_by_row(case: Case) -> None:
    loss = tuple(case.call(case.module, case.inputs())[0].shape)
    expect(loss == (BATCH, TIME), f"the loss has shape {loss}, expected {(BATCH, TIME)}")


promise.include(module.promise, "batch")
promise("gradients-reach-features", "The loss has a gradient for every feature.", "detach()")(
    module.reaches_inputs
)
promise.include(module.promise, "gradients-reach-parameters")


@promise(
    "learns",
    f"{STEPS} steps of Adam on one batch bring the predictions to their targets.",
    "the space of the targets, and the space in which the prediction is read",
)
def learns(case: Case) -> None:
    with seeded():
        features = case.inputs()[:, 0]
        target = case.target(BATCH)
        module = case.make()
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-2)
        for _ in range(STEPS):
            optimizer.zero_grad()
            module(features).nll(target).sum().backward()
            optimizer.step()
        with torch.no_grad():
            gap = (case.read(module(features)) - target).abs().max()
        size = target.abs().max()
        if not gap <= NEAR * size:
            raise Violation(
                f"after training the head still misses targets up to {size:.3g} in absolute value",
                difference=gap.item(),
                allowed=NEAR * size.item(),
            )


promise.include(module.promise, "repeatable")


@promise("large-features", "Features of 1e4 give finite predictions.", "norms and bounds")
def large_features(case: Case) -> None:
    with steady():
        for x in case.call(case.module, 1e4 * case.inputs()):
            expect(bool(x.isfinite().all()), "a prediction or loss is not finite")


promise.include(module.promise, "leaves-inputs-alone")
promise.include(module.promise, "saves", "moves-to-a-device", "bfloat16", "compiles")


@promise.check
def check_head(
    make: Callable[[], nn.Module],
    *,
    feature_dim: int,
    target: Callable[[int], Shaped[Tensor, "batch ..."]],
    read: Callable[[Any], Float[Tensor, "batch ..."]] = lambda output: output.mean,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a head: a module from features `... feature` to an output with `mean` and `nll`.

    Args:
        make: returns a new head.
        feature_dim: width of the features.
        target: `target(batch)` draws targets that the head should be able to learn.
        read: the prediction of an output, in the units of a target.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, feature_dim, target, read), make, only, skip)
