"""What an optimiser promises."""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from worldblocks.testing.promise import Names, NotApplicable, Promises, Report, Violation
from worldblocks.testing.promise.compare import expect, expect_equal

promise = Promises()
SHAPES = ((3, 2), (4,), ())
UPDATES = 8


class Case:
    """An optimiser, and what it is given."""

    def __init__(
        self,
        make: Callable[[list[nn.Parameter]], Optimizer],
        definition: Callable[[Tensor, list[Tensor]], Tensor] | None,
    ) -> None:
        self.make, self.definition = make, definition

    def run(self, starts: list[Tensor], gradients: list[list[Tensor | None]]) -> list[Tensor]:
        """Parameters after these gradients, one list for each update."""
        parameters = [nn.Parameter(start.clone()) for start in starts]
        updates(self.make(parameters), parameters, gradients)
        return [p.detach() for p in parameters]


def updates(
    optimizer: Optimizer, parameters: list[nn.Parameter], gradients: list[list[Tensor | None]]
) -> None:
    """Give gradients and step."""
    for row in gradients:
        for parameter, gradient in zip(parameters, row, strict=True):
            parameter.grad = None if gradient is None else gradient.to(parameter.dtype).clone()
        optimizer.step()


def starts(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Parameters of several shapes and sizes."""
    generator = torch.Generator().manual_seed(0)
    scales = (1.0, 10.0, 0.1)
    pairs = zip(SHAPES, scales, strict=True)
    return [s * torch.randn(shape, generator=generator, dtype=dtype) for shape, s in pairs]


def noise(count: int = UPDATES, scale: float = 1.0) -> list[list[Tensor | None]]:
    """Gradients of several sizes, some large."""
    generator = torch.Generator().manual_seed(1)
    return [
        [
            scale * 10.0 ** ((k + t) % 4 - 2) * torch.randn(shape, generator=generator)
            for k, shape in enumerate(SHAPES)
        ]
        for t in range(count)
    ]


@promise("descends", "It finds the minimum of a bowl.", "the sign of the update")
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
        what = "300 updates did not bring a parameter from 3 half of the way to the minimum at 1"
        raise Violation(what, difference=gap, allowed=1.0)


@promise(
    "definition",
    "The updates are those of the definition, a loop in float64.",
    "the order: clip, normalise, momentum, correction of the start, rate",
)
def is_its_definition(case: Case) -> None:
    if case.definition is None:
        raise NotApplicable("pass definition=..., a loop over gradients, to have it tested")
    for count in (1, 2, 3, UPDATES):
        given = noise(count)
        ours = case.run(starts(), given)
        columns = zip(starts(), zip(*given, strict=True), strict=True)
        told = [case.definition(p.double(), [g.double() for g in row]) for p, row in columns]
        what = f"after {count} updates the parameters are not those of the definition"
        expect_equal(ours, told, what, example=f"{count} updates")


@promise(
    "parameters-alone",
    "The updates of a parameter do not depend on other parameters and their gradients.",
    "norms over all parameters, and counts that belong to the optimiser",
)
def parameters_alone(case: Case) -> None:
    given = noise()
    together = case.run(starts(), given)
    for k, start in enumerate(starts()):
        alone = case.run([start], [[row[k]] for row in given])
        what = f"parameter {k} moved otherwise alone than beside others"
        expect_equal(together[k], alone[0], what, allowed=1e-6)


@promise(
    "no-gradient-no-update",
    "A parameter without a gradient stays, and goes on as if the update had not been.",
    "`p.grad is None`: it is left out, momentum and count too",
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
            what = f"parameter 1 had no gradient in update {t} and moved"
            expect_equal(parameters[1].detach(), before, what, allowed=0.0)
    alone = case.run([starts()[1]], [[row[1]] for row in pauses if row[1] is not None])
    what = "a parameter that paused went on otherwise than without the pause"
    expect_equal(parameters[1].detach(), alone[0], what, allowed=1e-6)


@promise(
    "resumes",
    "An optimiser that loads the state dict of another goes on exactly as it would.",
    "what `state_dict()` holds: averages, momentum and counts",
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
    what = "a resumed optimiser went on otherwise"
    expect_equal([p.detach() for p in others], [p.detach() for p in parameters], what, allowed=0.0)


@promise(
    "closure",
    "`step(closure)` calls it with gradients on, and returns its loss.",
    "torch.enable_grad() around the closure",
)
def closure(case: Case) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = case.make([parameter])
    parameter.grad = torch.ones(3)

    def loss() -> float:
        optimizer.zero_grad()
        value = parameter.square().sum()
        expect(value.requires_grad, "the closure was called without gradients")
        value.backward()
        return value.item()

    told = optimizer.step(loss)
    expect(told == 3.0, f"step(closure) returned {told}, the closure 3.0")


@promise(
    "no-memory",
    "Parameters after the same gradients are the same in every new optimiser.",
    "attributes of a class or a parameter that outlive the optimiser",
)
def no_memory(case: Case) -> None:
    first = case.run(starts(), noise())
    expect_equal(
        case.run(starts(), noise()), first, "a second optimiser moved otherwise", allowed=0
    )


@promise("extremes", "Gradients of 0 and of 1e-20 to 1e15 leave finite parameters.", "eps")
def extremes(case: Case) -> None:
    for scale in (0.0, 1e-20, 1e15):
        for p in case.run(starts(), noise(3, scale)):
            expect(
                bool(p.isfinite().all()), f"gradients of {scale} left {p.flatten()[:3].tolist()}"
            )


@promise("float64", "Parameters in float64 stay there, and move as in float32.", "dtypes of states")
def float64(case: Case) -> None:
    ours = case.run(starts(torch.float64), noise())
    expect(all(p.dtype == torch.float64 for p in ours), "a parameter changed its dtype")
    told = case.run([p.float() for p in starts(torch.float64)], noise())
    expect_equal(ours, told, "float64 and float32 move otherwise", allowed=1e-4)


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
    """Test an optimiser of the kind of `torch.optim`.

    Args:
        make: `make(parameters)` gives the optimiser, with a rate of about 0.1.
        definition: `definition(parameter, gradients)` gives one parameter after these gradients: a
            slow loop that is obviously right.
        only, skip: names of promises to test alone, or to leave out. An optimiser that clips the
            gradients of all parameters together breaks `parameters-alone`.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, definition), make, only, skip)
