"""Comparing results: fixed random numbers, tolerances, gradients and graphs."""

import io
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worldblocks.distributions import modes
from worldblocks.testing.promise import Violation

M = TypeVar("M", bound=nn.Module)
CLOSE = 1e-4  # the same sum in another order, float32
SAME = 1e-6  # the same operation on the same numbers


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Seed torch inside the context and restore its random state afterwards."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would record a call stack for each missing device.
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def steady() -> Iterator[None]:
    """Replace samples of our distributions by modes inside the context; seed all others."""
    with seeded(), modes():
        yield


def perturbed(make: Callable[[], M], seed: int = 0, amount: float = 0.3) -> M:
    """A new block with noise added to its weights: faults do not show where a weight is zero."""
    with seeded(seed):
        block = make()
        if isinstance(block, nn.Module):
            with torch.no_grad():
                for parameter in block.parameters():
                    if parameter.is_floating_point():
                        parameter.add_(amount * torch.randn_like(parameter))
    return block


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a pytree."""
    return [leaf for leaf in pytree.tree_leaves(tree) if torch.is_tensor(leaf)]


def rows(tree: Any, index: Any) -> Any:
    """Index every tensor of a pytree."""
    return pytree.tree_map(lambda leaf: leaf[index] if torch.is_tensor(leaf) else leaf, tree)


def cloned(tree: Any) -> Any:
    """A detached copy of every tensor of a pytree."""
    return pytree.tree_map(lambda x: x.detach().clone() if torch.is_tensor(x) else x, tree)


def leaves_of(tree: Any) -> Any:
    """A copy of a pytree whose floating-point tensors require a gradient."""
    copy = cloned(tree)
    for leaf in tensors(copy):
        leaf.requires_grad_(leaf.is_floating_point())
    return copy


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two pytrees, relative where numbers exceed 1.

    It is infinite where one is NaN and the other is not.
    """
    a, b = tensors(ours), tensors(theirs)
    if len(a) != len(b):
        raise Violation(f"got {len(a)} tensors where {len(b)} were expected")
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape:
            shapes = f"{tuple(x.shape)} where {tuple(y.shape)} was expected"
            raise Violation(f"got a tensor of shape {shapes}")
        if not x.numel():
            continue
        x, y = x.detach().double(), y.detach().double()
        gap = torch.where((x == y) | (x.isnan() & y.isnan()), 0.0, (x - y).abs())
        size = torch.where(y.isfinite(), y.abs(), 1.0).max().clamp(min=1.0)
        gap = (gap / size).nan_to_num(nan=math.inf, posinf=math.inf)
        worst = max(worst, gap.max().item())
    return worst


def expect_equal(
    ours: Any, theirs: Any, what: str, *, allowed: float = CLOSE, example: Any = None
) -> None:
    """Raise if two pytrees differ by more than `allowed`."""
    gap = difference(ours, theirs)
    if not gap <= allowed:
        raise Violation(what, difference=gap, allowed=allowed, example=example)


def expect_zero(found: Any, what: str, *, example: Any = None) -> None:
    """Raise unless all numbers of a pytree, usually gradients, are exactly 0."""
    zeros = [torch.zeros_like(x) for x in tensors(found)]
    expect_equal(found, zeros, what, allowed=0.0, example=example)


def expect_different(ours: Any, theirs: Any, what: str, *, example: Any = None) -> None:
    """Raise unless two pytrees differ."""
    if not difference(ours, theirs) > SAME:
        raise Violation(what, example=example)


def expect(holds: bool, what: str, *, example: Any = None) -> None:
    """Raise unless a condition holds."""
    if not holds:
        raise Violation(what, example=example)


def weighted(tree: Any) -> Tensor:
    """A weighted sum to differentiate; the weights are random so that no terms cancel."""
    parts = [x.double() for x in tensors(tree) if x.requires_grad]
    if not parts:
        raise Violation("no output requires a gradient")
    with seeded(1):
        return torch.stack([(x * (1 + torch.rand(x.shape))).sum() for x in parts]).sum()


def gradients(output: Tensor, inputs: Any) -> list[Tensor]:
    """Gradients with respect to the inputs that require one; zeros where there is none."""
    leaves = [x for x in tensors(inputs) if x.requires_grad]
    if not leaves or not output.requires_grad:
        return [torch.zeros_like(x) for x in leaves]
    found = torch.autograd.grad(output, leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


@contextmanager
def compiled(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Compile a function as one graph inside the context; a graph break is an error."""
    # Tracing logs each step, at any level, and a test runner would keep and print all the records.
    log = logging.getLogger("torch.__trace")
    before = log.handlers, log.propagate
    log.handlers = [one for one in log.handlers if type(one).__module__.startswith("torch.")]
    log.propagate = False
    torch.compiler.reset()
    try:
        yield torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)
    finally:
        log.handlers, log.propagate = before


def outcome(call: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, list[Tensor]]:
    """Values of a call, and the gradients of their weighted sum for each argument."""
    given = leaves_of(list(arguments))
    with steady():
        out = call(*given)
    smooth = [x for x in tensors(out) if x.requires_grad]
    return cloned(out), gradients(weighted(smooth), given) if smooth else []


def expect_compiles(function: Callable[..., Any], arguments: Sequence[Any], what: str) -> None:
    """Raise unless a function compiles to one graph with its eager values and gradients."""
    eager = outcome(function, arguments)
    with compiled(function) as graph:
        ours = outcome(graph, arguments)
    expect_equal(ours[0], eager[0], f"{what}: values differ once compiled")
    expect_equal(ours[1], eager[1], f"{what}: gradients differ once compiled", allowed=1e-3)


def expect_trained(module: nn.Module, loss: Tensor) -> None:
    """Raise unless a loss has a gradient for every parameter."""
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    found = gradients(loss, list(named.values()))
    missing = [name for name, g in zip(named, found, strict=True) if not g.ne(0).any()]
    expect(not missing, f"no gradient reaches {', '.join(missing)}")


def reloaded(make: Callable[[], M], module: nn.Module) -> M:
    """A new module that loads the saved state dict of another."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = perturbed(make, seed=5)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def devices() -> list[str]:
    """Devices to move to: the meta device, which needs no hardware, and a GPU if there is one."""
    return ["meta", *["cuda"] * torch.cuda.is_available()]


def expect_untouched(call: Callable[..., Any], arguments: Sequence[Any], what: str) -> None:
    """Raise if a call writes into its arguments."""
    given = cloned(list(arguments))
    kept = cloned(given)
    with steady(), torch.no_grad():
        call(*given)
    expect_equal(given, kept, what, allowed=0.0)
