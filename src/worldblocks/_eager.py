"""What functions with a backward pass of their own, for a CPU, have in common."""

import torch
from jaxtyping import Float
from torch import Tensor


def eager_on_cpu(x: Float[Tensor, "..."]) -> bool:
    """Whether an operation on this tensor runs by itself and at once, in float32, on a CPU.

    A block may then take a way with fewer operations and passes over memory, which a compiler finds
    by itself and a GPU does not need. In another dtype, autocast's too, the plain formula says what
    is rounded where; `torch.func` takes derivatives of plain formulas only.
    """
    return (
        x.device.type == "cpu"
        and x.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


def first_order(name: str, plain: str) -> None:
    """In a backward pass: refuse to be differentiated again, which would be silently wrong.

    Raises:
        RuntimeError: the backward pass is itself recorded (`create_graph=True`).
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} has no second derivative on a CPU, where its gradient is one function, and "
            f"was asked for one (create_graph=True); {plain} has"
        )
