"""What a head promises."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldblocks.testing.modules import module as modules
from worldblocks.testing.promise import Found, Names, Promises, Report
from worldblocks.testing.promise.compare import expect, seeded, steady, stirred

promise = Promises()
BATCH, TIME = 3, 4
STEPS = 200
NEAR = 0.1  # what training leaves of the distance to a target, relative
DRIFT = 0.05  # under autocast to bfloat16


class Case:
    """A head, what it reads, and what it learns."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        feature_dim: int,
        target: Callable[..., Tensor],
        read: Callable[[Any], Tensor],
    ) -> None:
        self.make, self.feature_dim, self.target, self.read = make, feature_dim, target, read
        self.module = stirred(make)
        with seeded(3):
            self._target = target(1)[0]  # the same for every row

    def features(self, seed: int = 0) -> Tensor:
        """Features `batch time feature`."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(BATCH, TIME, self.feature_dim, generator=generator)

    def call(self, module: Any, features: Tensor) -> list[Tensor]:
        """Loss of a target that stays, and mean."""
        output = module(features)
        target = self.targets(*features.shape[:-1])
        return [output.nll(target.to(features.device)), output.mean]

    def targets(self, *batch: int) -> Tensor:
        """The same targets every time."""
        return self._target.expand(*batch, *self._target.shape).contiguous()


@promise("axes", "Batch axes are free, and each row is predicted alone.", "reshapes of the output")
def axes(case: Case) -> None:
    modules.expect_axes(case.module, case.features(), case.call)


@promise(
    "loss-by-row", "The loss has one number for each row.", "which axes the loss is summed over"
)
def loss_by_row(case: Case) -> None:
    loss = case.call(case.module, case.features())[0]
    expect(loss.shape == (BATCH, TIME), f"the loss of axes {(BATCH, TIME)}: {tuple(loss.shape)}")


@promise("batch", "Elements of a batch do not see each other.", "norms over the batch axis")
def batch(case: Case) -> None:
    modules.expect_batch(case.module, case.features(), case.features(1), case.call)


@promise("gradients-reach-features", "The loss trains what is below the head.", "detach()")
def gradients_reach_features(case: Case) -> None:
    modules.expect_reached(case.module, case.features(), case.call)


@promise("gradients-reach-parameters", "The loss trains every parameter.", "detach(), no_grad()")
def gradients_reach_parameters(case: Case) -> None:
    modules.expect_trained(case.module, case.features(), case.call)


@promise(
    "learns",
    f"{STEPS} steps of Adam on one batch bring the prediction to its targets.",
    "the space that targets are compared in, and that the prediction is read in",
)
def learns(case: Case) -> None:
    with seeded():
        features = case.features()[:, 0]
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
            raise Found(
                f"targets up to {size:.3g} in absolute value are still missed after training",
                deviation=gap.item(),
                allowed=NEAR * size.item(),
            )


@promise("repeatable", "In evaluation a call depends on its input alone.", "dropout, batch norm")
def repeatable(case: Case) -> None:
    modules.expect_repeatable(case.module, case.features(), case.call)


@promise("large-features", "Features of 1e4 give finite predictions.", "norms and bounds")
def large_features(case: Case) -> None:
    with steady():
        for x in case.call(case.module, 1e4 * case.features()):
            expect(bool(x.isfinite().all()), "a prediction or loss is not finite")


@promise("leaves-inputs-alone", "Nothing is written into what is given.", "operations in place")
def leaves_inputs_alone(case: Case) -> None:
    modules.expect_quiet(case.module, case.features(), case.call)


@promise("saves", "A head that loads the state dict of another is the other.", "plain attributes")
def saves(case: Case) -> None:
    modules.expect_saved(case.make, case.features(), case.call)


@promise("moves-to-a-device", "On another device all is computed there.", "plain attributes")
def moves_to_a_device(case: Case) -> None:
    modules.expect_moves(case.make, case.features(), case.call)


@promise("bfloat16", f"Under autocast a result drifts by at most {DRIFT}.", "float32 in the output")
def bfloat16(case: Case) -> None:
    modules.expect_bfloat16(case.module, case.features(), case.call, DRIFT)


@promise("compiles", "One graph, with the values and gradients of eager mode.", "Python branches")
def compiles(case: Case) -> None:
    modules.expect_graph(case.module, case.features(), case.call)


@promise.of
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
        make: gives a new head.
        feature_dim: width of the features it reads.
        target: `target(batch)` draws targets that it should be able to learn.
        read: what an output predicts, in the terms of a target.
        only, skip: names of promises that alone are tested, or are not.

    Raises:
        BrokenPromise: names each promise that is broken, and says how.
    """
    return promise.keep(Case(make, feature_dim, target, read), make, only, skip)
