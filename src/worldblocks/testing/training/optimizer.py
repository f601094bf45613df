"""Promises of optimisers."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from worldblocks.testing.promise import Names, NotApplicable, Promises, Report, Violation
from worldblocks.testing.promise.compare import expect, expect_equal

promise = Promises()
SHAPES = ((3, 2), (4,), ())
UPDATES = 8


class Case(NamedTuple):
    """An optimiser under test."""

    make: Callable[[list[nn.Parameter]], Optimizer]
    definition: Callable[[Tensor, list[Tensor]], Tensor] | None

    def run(self, starts: list[Tensor], gradients: list[list[Tensor | None]]) -> list[Tensor]:
        """Parameters after these gradients, one list for each update."""
        parameters = [nn.Parameter(start.clone()) for start in starts]
        updates(self.make(parameters), parameters, gradients)
        return [p.detach() for p in parameters]


def updates(
    optimizer: Optimizer, parameters: list[nn.Parameter], gradients: list[list[Tensor | None]]
) -> None:
    """Step with given gradients."""
    for row in gradients:
        for parameter, gradient in zip(parameters, row, strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.dtype).clone()
        optimizer.step()


def starts(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Parameters of several shapes and magnitudes."""
    generator = torch.Generator().manual_seed(0)
    scales = (1.0, 10.0, 0.1)
    pairs = zip(SHAPES, scales, strict=True)
    return [s * torch.randn(shape, generator=generator, dtype=dtype) for shape, s in pairs]


def noise(count: int = UPDATES, scale: float = 1.0) -> list[list[Tensor | None]]:
    """Gradients of several magnitudes."""
    generator = torch.Generator().manual_seed(1)
    return [
        [
            scale * 10.0 ** ((k + t) % 4 - 2) * torch.randn(shape, generator=generator)
            for k, shape in enumerate(SHAPES)
        ]
        for t in range(count)
    ]


@promise("descends", "It approaches the minimum of a quadratic function.", "the sign of the update")
def descends(case: Case) -> None:
    start = [torch.full((4,), 3.0)]
    parameters = [nn.Parameter(x.clone()) for x in start]
    optimizer = case.make(parameters)
    for _ in range(300):
        optimizer.zero_grad()
        (parameters[0] - 1).square().sum().backward()
        optimizer.step()
    gap = (parameters[0] - 1).abs().max().item()
    if not gap < 1.0:
        what = "300 updates did not bring a parameter half of the way from 3 to the minimum at 1"
        raise Violation(what, difference=gap, allowed=1.0)


@promise(
    "definition",
    "The updates match the definition, a loop in float64.",
    "the order: clipping, normalisation, momentum, bias correction, learning rate",
)
def is_its_definition(case: Case) -> None:
    if case.definition is None:
        raise NotApplicable("pass definition=..., a loop over gradients, to test it")
    for count in (1, 2, 3, UPDATES):
        given = noise(count)
        ours = case.run(starts(), given)
        columns = zip(starts(), zip(*given, strict=True), strict=True)
        expected = [case.definition(p.double(), [g.double() for g in row]) for p, row in columns]
        what = f"after {count} updates the parameters differ from the definition"
        expect_equal(ours, expected, what, example=f"{count} updates")


@promise(
    "parameters-alone",
    "The updates of a parameter do not depend on other parameters and their gradients.",
    "norms over all parameters, and step counts of the whole optimiser",
)
def parameters_alone(case: Case) -> None:
    given = noise()
    together = case.run(starts(), given)
    for k, start in enumerate(starts()):
        alone = case.run([start], [[row[k]] for row in given])
        what = f"parameter {k} has other updates alone than with other parameters"
        expect_equal(together[k], alone[0], what, allowed=1e-6)


@promise(
    "no-gradient-no-update",
    "A parameter without a gradient is skipped, and its state does not change.",
    "`p.grad is None`: skip the parameter, its momentum and its step count",
)
def no_gradient_no_update(case: Case) -> None:
    given = noise()
    pauses = [
        [g if k != 1 or t not in (0, 4, 5) else None for k, g in enumerate(row)]
        for t, row in enumerate(given)
    ]
    parameters = [nn.Parameter(x.clone()) for x in starts()]
    optimizer = case.make(parameters)
    for t, row in enumerate(pauses):
        before = parameters[1].detach().clone()
        updates(optimizer, parameters, [row])
        if row[1] is None:
            what = f"parameter 1 had no gradient in update {t} but changed"
            expect_equal(parameters[1].detach(), before, what, allowed=0.0)
    alone = case.run([starts()[1]], [[row[1]] for row in pauses if row[1] is not None])
    what = "skipped updates changed the later updates of a parameter"
    expect_equal(parameters[1].detach(), alone[0], what, allowed=1e-6)


@promise(
    "resumes",
    "An optimiser that loads the state dict of another continues exactly like it.",
    "the contents of `state_dict()`: averages, momentum and step counts",
)
def resumes(case: Case) -> None:
    given = noise()
    parameters = [nn.Parameter(x.clone()) for x in starts()]
    optimizer = case.make(parameters)
    updates(optimizer, parameters, given[:4])
    others = [nn.Parameter(p.detach().clone()) for p in parameters]
    resumed = case.make(others)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    updates(optimizer, parameters, given[4:])
    updates(resumed, others, given[4:])
    what = "a resumed optimiser has other updates"
    expect_equal([p.detach() for p in others], [p.detach() for p in parameters], what, allowed=0.0)


@promise(
    "closure",
    "`step(closure)` calls the closure with gradients enabled and returns its loss.",
    "torch.enable_grad() around the closure",
)
def closure(case: Case) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = case.make([parameter])
    parameter.grad = torch.ones(3)

    def loss() -> float:
        optimizer.zero_grad()
        value = parameter.square().sum()
        expect(value.requires_grad, "the closure was called with gradients disabled")
        value.backward()
        return value.item()

    result = optimizer.step(loss)
    expect(result == 3.0, f"step(closure) returned {result}, the closure 3.0")


@promise(
    "no-memory",
    "Every new optimiser has the same updates for the same gradients.",
    "attributes of a class or a parameter that outlive the optimiser",
)
def no_memory(case: Case) -> None:
    first = case.run(starts(), noise())
    second = case.run(starts(), noise())
    expect_equal(second, first, "a second optimiser has other updates", allowed=0)


@promise("extremes", "Gradients of 0, 1e-20 and 1e15 give finite parameters.", "eps")
def extremes(case: Case) -> None:
    for scale in (0.0, 1e-20, 1e15):
        for p in case.run(starts(), noise(3, scale)):
            what = f"gradients of {scale} gave {p.flatten()[:3].tolist()}"
            expect(bool(p.isfinite().all()), what)


@promise("float64", "float64 parameters stay float64, with the same updates.", "dtypes of states")
def float64(case: Case) -> None:
    ours = case.run(starts(torch.float64), noise())
    expect(all(p.dtype == torch.float64 for p in ours), "a parameter changed its dtype")
    expected = case.run([p.float() for p in starts(torch.float64)], noise())
    expect_equal(ours, expected, "float64 and float32 have different updates", allowed=1e-4)


@promise.check
def check_optimizer(
    make: Callable[[list[nn.Parameter]], Optimizer],
    *,
    definition: Callable[
        [Float[Tensor, "*shape"], list[Float[Tensor, "*shape"]]], Float[Tensor, "*shape"]
    ]
    | None = None,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test an optimiser with the interface of `torch.optim`.

    Args:
        make: `make(parameters)` returns the optimiser, with a learning rate of about 0.1.
        definition: `definition(parameter, gradients)` returns one parameter after these gradients,
            by a slow loop that is obviously right.
        only, skip: names of promises to test alone, or to leave out. Skip `parameters-alone`
            if the gradients of all parameters are clipped together.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, definition), make, only, skip)
