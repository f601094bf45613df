"""Promises about losses, shapes and numerics."""

import torch
from torch import Tensor

from worldblocks.testing.distributions.case import BATCH, TIME, Case, promise
from worldblocks.testing.promise import NotApplicable, Violation, for_all
from worldblocks.testing.promise.compare import (
    SAME,
    expect,
    expect_compiles,
    expect_equal,
    expect_zero,
    gradients,
)
from worldblocks.testing.strategies import parameters


@promise("shape", "Loss, log-probability and entropy have the shape of the batch axes.", "sums")
def shape(case: Case) -> None:
    output = case.make(case.raw())
    target = case.target(output)
    results = {"nll": output.nll(target)}
    if hasattr(type(output), "log_prob"):
        results["log_prob"] = output.log_prob(target)
    if hasattr(type(output), "entropy"):
        results["entropy"] = output.entropy()
    for name, x in results.items():
        what = f"{name} has shape {tuple(x.shape)}, expected {(BATCH, TIME)}"
        expect(x.shape == (BATCH, TIME), what)
        expect(x.dtype == torch.float32, f"{name} is {x.dtype}")


@promise("loss-is-log-prob", "The loss is the negative log-probability.", "nll()")
def loss_is_log_prob(case: Case) -> None:
    case.sampled()
    output = case.make(case.raw())
    target = case.target(output)
    what = "nll(x) is not -log_prob(x)"
    expect_equal(output.nll(target), -output.log_prob(target), what, allowed=1e-5)


@promise(
    "mean-fits-best",
    "The loss is smallest at the prediction.",
    "the space of the targets: scaled once, order of the axes",
)
def mean_fits_best(case: Case) -> None:
    count = 24
    output = case.make(case.raw(0, count, 1))
    if hasattr(type(output), "sample"):
        raise NotApplicable("this output is a distribution: it has sample()")
    targets = case.target(output)
    own = output.nll(targets)
    for shift in range(1, count):
        other = output.nll(targets.roll(shift, 0))
        gap = (own - other).max().item()
        if gap > 1e-6:
            what = "the prediction of another element has a smaller loss than the element's own"
            raise Violation(what, difference=gap, allowed=1e-6)


@promise("slope", "The gradient of the loss matches finite differences.", "dtypes; detach()")
def slope(case: Case) -> None:
    step, direction = 1e-3, case.raw(5)
    raw = case.raw().requires_grad_()
    output = case.make(raw)
    target = case.target(output)
    if not hasattr(type(output), "sample"):
        target = target.roll(1, 0)  # the loss of a regression has slope 0 at its own prediction
    ours = (gradients(output.nll(target).sum(), [raw])[0] * direction).sum(-1)
    above, below = (
        case.make(raw.detach() + sign * step * direction).nll(target).double() for sign in (1, -1)
    )
    expected = (above - below) / (2 * step)
    what = "the gradient of the loss differs from finite differences"
    expect_equal(ours, expected, what, allowed=0.02)


@promise("target-not-trained", "The loss has no gradient with respect to its target.", "detach()")
def target_not_trained(case: Case) -> None:
    raw = case.raw().requires_grad_()
    output = case.make(raw)
    target = case.target(output)
    if not target.is_floating_point():
        raise NotApplicable("targets are integers")
    target.requires_grad_()
    found = gradients(output.nll(target).sum(), [target])
    expect_zero(found, "the loss has a gradient with respect to its target")


@promise(
    "asked-without-gradients",
    "Calls inside no_grad() do not change the gradients of later calls.",
    "cached results: those computed inside no_grad() have no gradient",
)
def asked_without_gradients(case: Case) -> None:
    raw = case.raw().requires_grad_()
    target = case.target(case.make(raw))
    fresh, used = case.make(raw), case.make(raw)
    with torch.no_grad():
        used.nll(target)
        for name in ("mean", "mode", "sample", "entropy"):
            if hasattr(type(used), name):
                found = getattr(used, name)
                _ = found() if callable(found) else found
    ours, expected = (gradients(output.nll(target).sum(), [raw]) for output in (used, fresh))
    what = "a distribution has another gradient after it was used inside no_grad()"
    expect_equal(ours, expected, what, allowed=SAME)


@promise("batch", "Elements of a batch are independent.", "means and norms over the batch")
def batch(case: Case) -> None:
    raw, target = case.raw(), case.target(case.make(case.raw()))
    mixed = torch.cat([raw[:1], case.raw(3)[1:]])
    ours, theirs = case.make(mixed), case.make(raw)
    what = "element 0 changed with the parameters of another"
    expect_equal(ours.nll(target)[:1], theirs.nll(target)[:1], what, allowed=SAME)
    expect_equal(ours.mean[:1], theirs.mean[:1], what, allowed=SAME)


@promise("slices", "A slice of an output is the output of a slice.", "the tensors in __getitem__")
def slices(case: Case) -> None:
    raw = case.raw()
    output = case.make(raw)
    target = case.target(output)
    for index in ((slice(None), slice(1, None)), (1,), (slice(None), -1)):
        ours, theirs = output[index], case.make(raw[index])
        what = f"output[{index}] is not the output of parameters[{index}]"
        expect_equal(ours.mean, theirs.mean, what, allowed=1e-5)
        expect_equal(ours.nll(target[index]), theirs.nll(target[index]), what, allowed=1e-5)


@promise(
    "refuses-other-shapes",
    "A target whose shape would broadcast is an error.",
    "the check of shapes before the first operation",
)
def refuses_other_shapes(case: Case) -> None:
    output = case.make(case.raw())
    target = case.target(output)
    for wrong in (target[:1], target[:, :1], target.unsqueeze(0)):
        try:
            output.nll(wrong)
        except Exception:
            continue
        shapes = f"{tuple(wrong.shape)} for {tuple(target.shape)}"
        raise Violation(f"a target of shape {shapes} was broadcast without an error")


@promise(
    "extremes",
    "Parameters from 1e-30 to 1e30 give no NaN in values or gradients.",
    "exp, log and division: log_softmax, logsigmoid, and floors",
)
def extremes(case: Case) -> None:
    def body(raw: Tensor) -> None:
        raw = raw.clone().requires_grad_()
        output = case.make(raw)
        target = case.target(output)
        results = {"mean": output.mean, "nll": output.nll(target)}
        if hasattr(type(output), "entropy"):
            results |= {"mode": output.mode, "entropy": output.entropy(), "sample": target}
        for name, x in results.items():
            expect(not x.isnan().any(), f"{name} is NaN")
        (found,) = gradients(results["nll"].sum(), [raw])
        expect(not found.isnan().any(), "the gradient of the loss is NaN")

    for_all(parameters(BATCH, TIME, case.size), body)


@promise(
    "float32-inside",
    "Parameters in bfloat16 are converted to float32.",
    "the constructor: .float() on its arguments",
)
def float32_inside(case: Case) -> None:
    raw = case.raw().bfloat16()
    rough, exact = case.make(raw), case.make(raw.float())
    target = case.target(exact)
    what = "the loss of bfloat16 parameters is not float32"
    expect(rough.nll(target).dtype == torch.float32, what)
    what = "bfloat16 parameters and the same numbers in float32 have different losses"
    expect_equal(rough.nll(target), exact.nll(target), what, allowed=0.02)


@promise("compiles", "The loss compiles to one graph with its eager results.", "Python branches")
def compiles(case: Case) -> None:
    target = case.target(case.make(case.raw()))
    expect_compiles(lambda raw: case.make(raw).nll(target), [case.raw()], "the loss")
