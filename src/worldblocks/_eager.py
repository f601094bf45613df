"""Conditions shared by the CPU kernels that define their own backward pass."""

import torch
from jaxtyping import Float
from torch import Tensor


def eager_on_cpu(x: Float[Tensor, "..."]) -> bool:
    """True if operations on this tensor run eagerly on a CPU in float32.

    A block may then use a kernel with fewer operations and fewer passes over memory. Compilers fuse
    the plain formula themselves, and GPUs do not need the kernel. Other dtypes, autocast included,
    keep the rounding of the plain formula, and `torch.func` can only differentiate plain formulas.
    """
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def first_order(name: str, plain: str) -> None:
    """Raise if a backward pass is itself recorded: its second derivative would be silently wrong.

    Raises:
        RuntimeError: the backward pass runs with `create_graph=True`.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} has no second derivative on a CPU and was differentiated with "
            f"create_graph=True; {plain} has one"
        )
