"""What a running scale promises."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.testing.promise import Names, NotApplicable, Promises, Report
from worldblocks.testing.promise.compare import (
    expect,
    expect_equal,
    expect_untouched,
    seeded,
    tensors,
)

promise = Promises()
UPDATES = 20
MANY = 1000


class Case:
    """A normaliser, and what it should come to."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        statistic: Callable[[Tensor], Any] | None,
        corrected: bool,
    ) -> None:
        self.make, self.statistic, self.corrected = make, statistic, corrected

    def signal(self, seed: int = 0) -> Tensor:
        """Numbers `batch time` whose rows differ, far from 0."""
        with seeded(seed):
            return 1e3 * (torch.randn(6, 7) + torch.arange(6.0)[:, None])

    def after(self, *signals: Tensor, module: nn.Module | None = None) -> list[Tensor]:
        """What is read after these updates."""
        module = module or self.make()
        return [tensors(module(signal)) for signal in signals][-1]


@promise(
    "updates-then-reads",
    "In training a call counts its own numbers before it reads.",
    "the order of update and read in forward()",
)
def updates_then_reads(case: Case) -> None:
    module = case.make()
    for seed in range(3):
        module.train()
        ours = case.after(case.signal(seed), module=module)
        module.eval()
        told = case.after(case.signal(9), module=module)
        what = "a call in training read another scale than stands there after it"
        expect_equal(ours, told, what, allowed=1e-6)


@promise("evaluation-reads", "In evaluation nothing is counted.", "self.training")
def evaluation_reads(case: Case) -> None:
    module = case.make()
    case.after(*[case.signal()] * UPDATES, module=module)
    module.eval()
    before = case.after(case.signal(), module=module)
    again = case.after(*[-5 * case.signal(1)] * UPDATES, module=module)
    expect_equal(again, before, "calls in evaluation moved the scale", allowed=0.0)


@promise(
    "every-number-counts",
    "All numbers of a batch count alike, in whatever row they stand.",
    "the axes that a statistic is taken over: all of them",
)
def every_number_counts(case: Case) -> None:
    signal = case.signal()
    with seeded():
        shuffled = signal.flatten()[torch.randperm(signal.numel())].view(signal.shape)
    told = case.after(*[signal] * UPDATES)
    what = "the same numbers in other places gave another scale"
    expect_equal(case.after(*[shuffled] * UPDATES), told, what)
    what = "the same numbers in another shape gave another scale"
    expect_equal(case.after(*[signal.flatten()] * UPDATES), told, what)


@promise(
    "converges",
    "Of numbers that stay, the running statistic becomes theirs.",
    "the rate, the percentiles, the floor",
)
def converges(case: Case) -> None:
    if case.statistic is None:
        raise NotApplicable("pass statistic=..., what it should come to, to have it tested")
    for scale in (1.0, 1e-6, 1e-3):
        signal = scale * case.signal()
        told = [torch.as_tensor(x) for x in tensors_of(case.statistic(signal))]
        what = f"after {MANY} updates with the same numbers (up to {signal.max():.3g}) the scale "
        what += "is not theirs"
        expect_equal(case.after(*[signal] * MANY), told, what, allowed=1e-3)


def tensors_of(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple | list) else [x]


@promise(
    "start-corrected",
    "The first update already gives the statistic of its numbers.",
    "the correction of an average that starts at 0: divide by 1 - (1 - rate)^t",
)
def start_corrected(case: Case) -> None:
    if not case.corrected or case.statistic is None:
        raise NotApplicable("this scale is said to start at 0 without a correction")
    for updates in (1, 2, 7):
        told = [torch.as_tensor(x) for x in tensors_of(case.statistic(case.signal()))]
        ours = case.after(*[case.signal()] * updates)
        what = f"after {updates} updates with the same numbers the statistic is not theirs"
        expect_equal(ours, told, what, allowed=1e-3)


@promise("no-gradient", "The scale is a constant: it has no gradient.", "detach() or no_grad()")
def no_gradient(case: Case) -> None:
    out = case.after(case.signal().requires_grad_())
    expect(not any(x.requires_grad for x in out), "the scale has a gradient")


@promise("saves", "The running state is in the state dict.", "register_buffer(persistent=True)")
def saves(case: Case) -> None:
    module, other = case.make(), case.make()
    case.after(*[case.signal()] * UPDATES, module=module)
    other.load_state_dict(module.state_dict())
    for one in (module, other):
        one.eval()
    ours, told = (case.after(case.signal(), module=one) for one in (other, module))
    expect_equal(ours, told, "a module with the same state dict reads another scale", allowed=0.0)
    for one in (module, other):
        one.train()
    ours, told = (case.after(case.signal(1), module=one) for one in (other, module))
    expect_equal(ours, told, "a module with the same state dict goes on otherwise", allowed=0.0)


@promise("moves-to-a-device", "On another device all is computed there.", "plain attributes")
def moves_to_a_device(case: Case) -> None:
    for device in ("meta", *["cuda"] * torch.cuda.is_available()):
        module = case.make().to(device)
        found = {x.device.type for x in case.after(case.signal().to(device), module=module)}
        expect(found == {device}, f"a module on {device!r} gave tensors on {sorted(found)}")


@promise("constant", "Numbers that are all equal give a scale that is finite.", "the floor")
def constant(case: Case) -> None:
    for number in (0.0, 1e-30, 1.0, 1e8):
        for x in case.after(*[torch.full((4, 5), number)] * 3):
            expect(bool(x.isfinite().all()), f"numbers that are all {number} gave {x.tolist()}")


@promise("leaves-inputs-alone", "Nothing is written into what is given.", "operations in place")
def leaves_inputs_alone(case: Case) -> None:
    expect_untouched(case.make(), [case.signal()], "the numbers that were given changed")


@promise.check
def check_normalizer(
    make: Callable[[], nn.Module],
    *,
    statistic: Callable[[Float[Tensor, "..."]], Any] | None = None,
    corrected: bool = False,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a running scale: a module that counts numbers in training and gives what they come to.

    Args:
        make: gives a new module; a call takes numbers of any shape and gives some scalars.
        statistic: what it comes to when it is given the same numbers again and again, in as many
            numbers as the module gives.
        corrected: whether its average is corrected for its start at 0.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, statistic, corrected), make, only, skip)
