"""Promises that encoders, decoders and heads share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worldblocks.testing.promise import Promises
from worldblocks.testing.promise.compare import (
    SAME,
    cloned,
    devices,
    expect,
    expect_compiles,
    expect_equal,
    expect_trained,
    expect_untouched,
    gradients,
    leaves_of,
    perturbed,
    reloaded,
    rows,
    steady,
    weighted,
)

promise = Promises()
DRIFT = 0.05  # under autocast to bfloat16, relative norm


class ModuleCase(ABC):
    """A module under test, its factory and its inputs."""

    make: Callable[[], nn.Module]
    module: nn.Module

    @abstractmethod
    def inputs(self, seed: int = 0) -> Any:
        """Random inputs `batch time ...`."""

    @abstractmethod
    def call(self, module: Any, inputs: Any) -> list[Tensor]:
        """The outputs of a module."""


@promise("axes", "Batch axes are free, and each row is computed alone.", "reshapes")
def axes(case: ModuleCase) -> None:
    inputs = case.inputs()
    with steady():
        both = case.call(case.module, inputs)
        flat = case.call(case.module, pytree.tree_map(lambda x: x.flatten(0, 1), inputs))
        first = case.call(case.module, rows(inputs, 0))
    what = "flattening batch and time into one axis changes the result"
    expect_equal([x.flatten(0, 1) for x in both], flat, what)
    what = "the rows of element 0 alone give another result than in a batch"
    expect_equal([x[0] for x in both], first, what)


@promise("batch", "Elements of a batch are independent.", "norms over the batch axis")
def batch(case: ModuleCase) -> None:
    def mix(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a[:1], b[1:]])

    inputs, other = case.inputs(), case.inputs(1)
    with steady():
        ours = case.call(case.module, pytree.tree_map(mix, inputs, other))
        theirs = case.call(case.module, inputs)
    what = "the result of element 0 changed with another element"
    expect_equal([x[:1] for x in ours], [x[:1] for x in theirs], what, allowed=SAME)


@promise("gradients-reach-parameters", "Every parameter has a gradient.", "detach(), no_grad()")
def gradients_reach_parameters(case: ModuleCase) -> None:
    with steady():
        expect_trained(case.module, weighted(case.call(case.module, case.inputs())))


@promise(
    "repeatable",
    "In evaluation the result depends on the input alone.",
    "dropout, batch norm",
)
def repeatable(case: ModuleCase) -> None:
    inputs = case.inputs()
    case.module.eval()
    with torch.no_grad():
        first, second = (case.call(case.module, inputs) for _ in range(2))
    case.module.train()
    expect_equal(second, first, "a second call in evaluation gave another result", allowed=0.0)


@promise("leaves-inputs-alone", "A call does not modify its inputs.", "in-place operations")
def leaves_inputs_alone(case: ModuleCase) -> None:
    what = "the inputs changed during a call"
    expect_untouched(lambda *given: case.call(case.module, given[0]), [case.inputs()], what)


@promise(
    "saves",
    "Two modules with the same state dict compute the same.",
    "state that is neither a parameter nor a persistent buffer",
)
def saves(case: ModuleCase) -> None:
    module, inputs = perturbed(case.make), case.inputs()
    other = reloaded(case.make, module)
    with steady():
        ours, theirs = case.call(other, inputs), case.call(module, inputs)
    expect_equal(ours, theirs, "a module with the same state dict gave another result")


@promise(
    "moves-to-a-device",
    "A module on another device computes there.",
    "tensors that are plain attributes instead of buffers",
)
def moves_to_a_device(case: ModuleCase) -> None:
    for device in devices():
        module = perturbed(case.make).to(device)
        with steady():
            inputs = pytree.tree_map(lambda x, to=device: x.to(to), case.inputs())
            out = case.call(module, inputs)
        found = {x.device.type for x in out}
        expect(found == {device}, f"a module on {device!r} gave tensors on {sorted(found)}")


@promise(
    "bfloat16",
    f"Under autocast to bfloat16 the result drifts by at most {DRIFT}.",
    "norms and losses that are not computed in float32",
)
def bfloat16(case: ModuleCase) -> None:
    inputs = case.inputs()
    with steady(), torch.no_grad():
        exact = case.call(case.module, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rough = case.call(case.module, inputs)
    for a, b in zip(rough, exact, strict=True):
        gap = (a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-6)
        what = "a result drifted under autocast to bfloat16 (relative norm)"
        expect_equal(gap, torch.zeros_like(gap), what, allowed=DRIFT)


@promise("compiles", "A call compiles to one graph with its eager results.", "Python branches")
def compiles(case: ModuleCase) -> None:
    expect_compiles(
        lambda given: case.call(case.module, given), [cloned(case.inputs())], "the call"
    )


def reaches_inputs(case: ModuleCase) -> None:
    """Every floating-point input of every element has a gradient."""
    given = leaves_of(case.inputs())
    with steady():
        loss = weighted(case.call(case.module, given))
    for place, found in enumerate(gradients(loss, given)):
        reached = found.flatten(1).ne(0).any(1)
        expect(bool(reached.all()), f"the result has no gradient with respect to input {place}")
