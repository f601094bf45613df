"""What encoders, decoders and heads promise alike, as modules.

`call(module, inputs)` gives the tensors that a module puts out.
"""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worldblocks.testing.promise.compare import (
    SAME,
    cloned,
    expect,
    expect_compiles,
    expect_equal,
    expect_untouched,
    gradients,
    rows,
    steady,
    stirred,
    weighted,
)

Call = Callable[[Any, Any], list[Tensor]]


def expect_axes(module: nn.Module, inputs: Any, call: Call) -> None:
    """Batch axes are free: `batch time` is the same as both in one, and as rows one by one."""
    with steady():
        both = call(module, inputs)
        flat = call(module, pytree.tree_map(lambda x: x.flatten(0, 1), inputs))
        first = call(module, rows(inputs, 0))
    what = "batch and time in one axis give another result"
    expect_equal([x.flatten(0, 1) for x in both], flat, what)
    what = "the rows of element 0 alone give another result than in a batch"
    expect_equal([x[0] for x in both], first, what)


def expect_batch(module: nn.Module, inputs: Any, other: Any, call: Call) -> None:
    """Elements do not see each other, in values and gradients."""

    def mix(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a[:1], b[1:]])

    with steady():
        ours = call(module, pytree.tree_map(mix, inputs, other))
        theirs = call(module, inputs)
    what = "the result of element 0 changed with another element"
    expect_equal([x[:1] for x in ours], [x[:1] for x in theirs], what, allowed=SAME)


def expect_repeatable(module: nn.Module, inputs: Any, call: Call) -> None:
    """In evaluation a second call gives the same."""
    module.eval()
    with torch.no_grad():
        first, second = call(module, inputs), call(module, inputs)
    module.train()
    expect_equal(second, first, "a second call in evaluation gave another result", allowed=0.0)


def expect_trained(module: nn.Module, inputs: Any, call: Call) -> None:
    """Every parameter has a gradient."""
    with steady():
        loss = weighted(call(module, inputs))
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = gradients(loss, list(named.values()))
    silent = [name for name, g in zip(named, found, strict=True) if not g.ne(0).any()]
    expect(not silent, f"no gradient reaches {', '.join(silent)}")


def expect_saved(make: Callable[[], nn.Module], inputs: Any, call: Call) -> None:
    """A module that loads the state dict of another is the other."""
    module, other, file = stirred(make), stirred(make, seed=5), io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with steady():
        ours, theirs = call(other, inputs), call(module, inputs)
    expect_equal(ours, theirs, "a module with the same state dict gave another result")


def expect_moves(make: Callable[[], nn.Module], inputs: Any, call: Call) -> None:
    """Moved to another device, a module computes there alone."""
    for device in ("meta", *["cuda"] * torch.cuda.is_available()):
        module = stirred(make).to(device)
        with steady():
            out = call(module, pytree.tree_map(lambda x, to=device: x.to(to), inputs))
        found = {x.device.type for x in out}
        expect(found == {device}, f"a module on {device!r} gave tensors on {sorted(found)}")


def expect_bfloat16(module: nn.Module, inputs: Any, call: Call, drift: float) -> None:
    """Under autocast the result stays near."""
    with steady(), torch.no_grad():
        exact = call(module, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            rough = call(module, inputs)
    for a, b in zip(rough, exact, strict=True):
        gap = (a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-6)
        what = "a result drifted under autocast to bfloat16 (relative norm)"
        expect_equal(gap, torch.zeros_like(gap), what, allowed=drift)


def expect_quiet(module: nn.Module, inputs: Any, call: Call) -> None:
    """Nothing is written into what is given."""
    what = "the inputs changed during a call"
    expect_untouched(lambda *given: call(module, given[0]), [inputs], what)


def expect_graph(module: nn.Module, inputs: Any, call: Call) -> None:
    """A call is one graph."""
    expect_compiles(lambda given: call(module, given), [cloned(inputs)], "a call")


def expect_reached(module: nn.Module, inputs: Any, call: Call) -> None:
    """Each floating-point input of each element has a gradient from the result."""
    given = pytree.tree_map(
        lambda x: x.detach().clone().requires_grad_(x.is_floating_point()), inputs
    )
    with steady():
        loss = weighted(call(module, given))
    for place, found in enumerate(gradients(loss, given)):
        reached = found.flatten(1).ne(0).any(1)
        expect(bool(reached.all()), f"input {place} has no gradient from the result")
