"""What an update does, counted operation by operation: arithmetic, bytes, calls, time."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.adapters.torch_tools import by_operation
from benchmarks.adapters.updates import Update

TOP = 15  # operations of a profile
UPDATES = 3  # that are profiled
# Operations that move nothing, though their declaration does not say so.
FREE = {"_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
ARITHMETIC = {
    "mm",
    "addmm",
    "addmm_",
    "bmm",
    "baddbmm",
    "baddbmm_",
    "convolution",
    "convolution_backward",
}


class Traffic(TorchDispatchMode):
    """Counts operations, and the bytes they read and write once each.

    Attributes:
        calls: operations that do something; views do not.
        arithmetic: bytes of matrix multiplications and convolutions.
        other: bytes of all others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.arithmetic = self.other = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in FREE or is_view(func):
            return out
        self.calls += 1
        written = func._schema.overload_name.endswith("out")  # then what is given is the result
        moved = sum(map(size, pytree.tree_leaves((args, {} if written else kwargs, out))))
        if name in ARITHMETIC:
            self.arithmetic += moved
        else:
            self.other += moved
        return out


def is_view(func: Any) -> bool:
    """Whether its results are its arguments, looked at in another way."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def size(leaf: Any) -> int:
    """Bytes of a tensor; of an expanded one, those that are there."""
    if not isinstance(leaf, torch.Tensor):
        return 0
    return min(leaf.numel() * leaf.element_size(), leaf.untyped_storage().nbytes())


def arithmetic(one: Update) -> dict[str, float]:
    """FLOPs by kind, forward and backward; backward is what the losses alone do not need."""
    forward, whole = by_kind(lambda: losses(one)), by_kind(one.step)
    found = {}
    for kind in ("matmul", "convolution"):
        found[f"{kind} forward"] = float(forward[kind])
        found[f"{kind} backward"] = float(whole[kind] - forward[kind])
    return found


def losses(one: Update) -> None:
    """The forward pass of an update."""
    device = one.rows.reward.device.type
    with torch.autocast(device, torch.bfloat16, enabled=one.cfg.bf16):
        post, *_ = one.recipe.world_model_loss(one.agent, one.rows, one.cfg)
        one.recipe.actor_critic_loss(one.agent, post, one.rows, one.cfg)


def by_kind(function: Callable[[], Any]) -> dict[str, int]:
    """FLOPs of matrix multiplications and of convolutions."""
    found = {"matmul": 0, "convolution": 0}
    for operation, count in by_operation(function).items():
        found["convolution" if "convolution" in str(operation) else "matmul"] += count
    return found


def traffic(one: Update) -> dict[str, float]:
    """Operations and bytes of an update."""
    with Traffic() as counted:
        one.step()
    return {
        "operations": float(counted.calls),
        "bytes arithmetic": float(counted.arithmetic),
        "bytes other": float(counted.other),
    }


def profile(one: Update) -> dict[str, float]:
    """`profile NAME`: milliseconds of an update in that operation; `calls NAME`: how often."""
    from torch.profiler import ProfilerActivity

    cuda = one.rows.reward.is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(UPDATES):
            one.step()
    own = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, own))
    found = {"profile total": sum(getattr(event, own) for event in events) / UPDATES / 1e3}
    for event in events[:TOP]:
        found[f"profile {event.key}"] = getattr(event, own) / UPDATES / 1e3
        found[f"calls {event.key}"] = event.count / UPDATES
    return found
