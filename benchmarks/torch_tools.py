"""Threads, versions, parameters and FLOPs of PyTorch libraries."""

import math
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

import torch
from torch.utils import flop_counter


def prepare(threads: int) -> None:
    """Set threads and seed."""
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)


class NoTracker:
    """Replaces the counter's module tracker, which fails on modules of tensordict."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "NoTracker":
        return self

    def __exit__(self, *error: object) -> bool:
        return False


def in_place(total: Any, a: Any, b: Any, **known: Any) -> int:
    """FLOPs of `total.addmm_(a, b)` or of its batched form, from their shapes."""
    return 2 * math.prod(a) * b[-1]


# Operations that PyTorch's counter leaves out.
MORE: Any = {torch.ops.aten.addmm_: in_place, torch.ops.aten.baddbmm_: in_place}


def flops(function: Callable[[], Any]) -> int:
    """Matrix multiplications and convolutions of one call, backward included."""
    tracker, flop_counter.ModuleTracker = flop_counter.ModuleTracker, NoTracker
    try:
        with flop_counter.FlopCounterMode(display=False, custom_mapping=MORE) as counter:
            function()
    finally:
        flop_counter.ModuleTracker = tracker
    return sum(counter.get_flop_counts().get("Global", {}).values())


def parameters(*modules: torch.nn.Module) -> int:
    """The number of parameters, each counted once."""
    return count(p for module in modules for p in module.parameters())


def count(tensors: Iterable[torch.Tensor]) -> int:
    """The number of elements in distinct tensors."""
    return sum(tensor.numel() for tensor in {id(t): t for t in tensors}.values())


def versions(*names: str) -> dict[str, str]:
    """Versions of distributions."""
    return {name: metadata.version(name) for name in names}
