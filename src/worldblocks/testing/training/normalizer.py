"""Promises of running scales."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.testing.promise import Names, NotApplicable, Promises, Report
from worldblocks.testing.promise.compare import (
    devices,
    expect,
    expect_equal,
    expect_untouched,
    seeded,
    tensors,
)

promise = Promises()
UPDATES = 20
MANY = 1000


class Case(NamedTuple):
    """A running scale and the statistic that it tracks."""

    make: Callable[[], nn.Module]
    statistic: Callable[[Tensor], Any] | None
    corrected: bool

    def signal(self, seed: int = 0) -> Tensor:
        """Large numbers `batch time`; each row has another mean."""
        with seeded(seed):
            return 1e3 * (torch.randn(6, 7) + torch.arange(6.0)[:, None])

    def expected(self, signal: Tensor) -> list[Tensor]:
        """The statistic of these numbers."""
        if self.statistic is None:
            raise NotApplicable("pass statistic=... to test it")
        found = self.statistic(signal)
        return [torch.as_tensor(x) for x in (found if isinstance(found, tuple | list) else [found])]

    def after(self, *signals: Tensor, module: nn.Module | None = None) -> list[Tensor]:
        """The statistics after these updates."""
        module = module or self.make()
        return [tensors(module(signal)) for signal in signals][-1]


@promise(
    "updates-then-reads",
    "In training mode a call updates the statistics before it returns them.",
    "the order of update and result in forward()",
)
def updates_then_reads(case: Case) -> None:
    module = case.make()
    for seed in range(3):
        module.train()
        ours = case.after(case.signal(seed), module=module)
        module.eval()
        expected = case.after(case.signal(9), module=module)
        what = "a call in training mode returned the scale from before its update"
        expect_equal(ours, expected, what, allowed=1e-6)


@promise("evaluation-reads", "Evaluation mode does not update the statistics.", "self.training")
def evaluation_reads(case: Case) -> None:
    module = case.make()
    case.after(*[case.signal()] * UPDATES, module=module)
    module.eval()
    before = case.after(case.signal(), module=module)
    again = case.after(*[-5 * case.signal(1)] * UPDATES, module=module)
    expect_equal(again, before, "calls in evaluation mode changed the scale", allowed=0.0)


@promise(
    "every-number-counts",
    "All numbers of a batch have the same weight, whatever their row.",
    "the axes of the statistic: all of them",
)
def every_number_counts(case: Case) -> None:
    signal = case.signal()
    with seeded():
        shuffled = signal.flatten()[torch.randperm(signal.numel())].view(signal.shape)
    expected = case.after(*[signal] * UPDATES)
    what = "the same numbers in another order gave another scale"
    expect_equal(case.after(*[shuffled] * UPDATES), expected, what)
    what = "the same numbers in another shape gave another scale"
    expect_equal(case.after(*[signal.flatten()] * UPDATES), expected, what)


@promise(
    "converges",
    "For constant inputs the running statistic converges to theirs.",
    "the rate, the percentiles, the floor",
)
def converges(case: Case) -> None:
    for scale in (1.0, 1e-6, 1e-3):
        signal = scale * case.signal()
        what = f"{MANY} updates with the same numbers (up to {signal.max():.3g}) do not converge "
        what += "to their statistic"
        expect_equal(case.after(*[signal] * MANY), case.expected(signal), what, allowed=1e-3)


@promise(
    "start-corrected",
    "The first update already returns the statistic of its numbers.",
    "the bias correction of an average that starts at 0: divide by 1 - (1 - rate)^t",
)
def start_corrected(case: Case) -> None:
    if not case.corrected:
        raise NotApplicable("pass corrected=True to test it")
    for updates in (1, 2, 7):
        ours = case.after(*[case.signal()] * updates)
        what = f"{updates} updates with the same numbers do not return their statistic"
        expect_equal(ours, case.expected(case.signal()), what, allowed=1e-3)


@promise("no-gradient", "The scale has no gradient.", "detach() or no_grad()")
def no_gradient(case: Case) -> None:
    out = case.after(case.signal().requires_grad_())
    expect(not any(x.requires_grad for x in out), "the scale has a gradient")


@promise("saves", "The state dict holds the statistics.", "register_buffer(persistent=True)")
def saves(case: Case) -> None:
    module, other = case.make(), case.make()
    case.after(*[case.signal()] * UPDATES, module=module)
    other.load_state_dict(module.state_dict())
    for one in (module, other):
        one.eval()
    ours, expected = (case.after(case.signal(), module=one) for one in (other, module))
    what = "a module with the same state dict returned another scale"
    expect_equal(ours, expected, what, allowed=0.0)
    for one in (module, other):
        one.train()
    ours, expected = (case.after(case.signal(1), module=one) for one in (other, module))
    what = "a module with the same state dict returned another scale after an update"
    expect_equal(ours, expected, what, allowed=0.0)


@promise("moves-to-a-device", "A module on another device computes there.", "plain attributes")
def moves_to_a_device(case: Case) -> None:
    for device in devices():
        module = case.make().to(device)
        found = {x.device.type for x in case.after(case.signal().to(device), module=module)}
        expect(found == {device}, f"a module on {device!r} returned tensors on {sorted(found)}")


@promise("constant", "Equal numbers give a finite scale.", "the floor")
def constant(case: Case) -> None:
    for number in (0.0, 1e-30, 1.0, 1e8):
        for x in case.after(*[torch.full((4, 5), number)] * 3):
            expect(bool(x.isfinite().all()), f"numbers that all equal {number} gave {x.tolist()}")


@promise("leaves-inputs-alone", "A call does not modify its input.", "in-place operations")
def leaves_inputs_alone(case: Case) -> None:
    expect_untouched(case.make(), [case.signal()], "the input changed")


@promise.check
def check_normalizer(
    make: Callable[[], nn.Module],
    *,
    statistic: Callable[[Float[Tensor, "..."]], Any] | None = None,
    corrected: bool = False,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a running scale: a module that tracks statistics of its inputs in training mode.

    Args:
        make: returns a new module; a call takes numbers of any shape and returns some scalars.
        statistic: the limit of those scalars for repeated calls with the same numbers.
        corrected: True if its average is corrected for its start at 0.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, statistic, corrected), make, only, skip)
