"""RMSNorm and SiLU as one function with its own backward pass, for a CPU.

A CPU is slow at many small operations and at many passes over a large tensor. These functions take
half as many of both as autograd through `F.silu(F.rms_norm(x))`, which is what they must equal.
"""

import functools
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

NARROW = 32  # channels below which a row is shorter than what the CPU likes to work on at once


def rms_norm_silu(
    x: Float[Tensor, "*batch feature"], scale: Float[Tensor, " feature"], eps: float
) -> Float[Tensor, "*batch feature"]:
    """`silu(x / sqrt(mean(x²) + eps) * scale)` over the last axis."""
    x = x.contiguous()
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        return FusedRMSNormSiLU.apply(x, scale, eps)
    return F.silu(forward(x, scale, eps).y, inplace=True)


class Normed(NamedTuple):
    """What a backward pass needs of a forward one."""

    unit: Float[Tensor, "*batch feature"]  # x / sqrt(mean(x²) + eps)
    y: Float[Tensor, "*batch feature"]  # unit * scale, before SiLU
    root: Float[Tensor, "*batch 1"]  # 1 / sqrt(mean(x²) + eps)


def forward(
    x: Float[Tensor, "*batch feature"], scale: Float[Tensor, " feature"], eps: float
) -> Normed:
    """`silu(result.y)` is the output."""
    n = x.shape[-1]
    if n < NARROW and x.is_contiguous():
        mean = torch.mv(x.square().view(-1, n), x.new_full((n,), 1 / n))
        root = mean.add_(eps).rsqrt_().view(*x.shape[:-1], 1)
    else:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        root = torch.addcmul(_constant(eps), norm, norm, value=1 / n).rsqrt_()
    unit = x * root
    return Normed(unit, _times(unit, scale), root)


@functools.cache
def _constant(value: float) -> Float[Tensor, ""]:
    """A number as a tensor: PyTorch would make a new one of it at each operation."""
    with torch.inference_mode(False):
        return torch.tensor(value)


def _times(
    x: Float[Tensor, "*batch feature"], scale: Float[Tensor, " feature"]
) -> Float[Tensor, "*batch feature"]:
    """`x * scale`, several narrow rows at once."""
    n, rows = x.shape[-1], 8
    if n >= NARROW or x.numel() % (n * rows) or not x.is_contiguous():
        return x * scale
    return (x.view(-1, n * rows) * scale.repeat(rows)).view(x.shape)


class FusedRMSNormSiLU(torch.autograd.Function):
    """`silu(x / sqrt(mean(x²) + eps) * scale)` over the last axis, float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, eps: float) -> Any:
        """Keep what `Normed` says."""
        normed = forward(x, scale, eps)
        ctx.save_for_backward(*normed, scale)
        return F.silu(normed.y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> tuple[Any, Any, None]:  # type: ignore[override]
        """Gradients of `x` and `scale`."""
        unit, y, root, scale = ctx.saved_tensors
        n = unit.shape[-1]
        grad = torch.ops.aten.silu_backward(grad, y)
        product = grad * unit
        along = torch.mv(product.reshape(-1, n), scale / n).view(root.shape)
        to_scale = product.reshape(-1, n).sum(0)
        to_x = _times(grad, scale).addcmul_(unit, along, value=-1).mul_(root)
        return to_x, to_scale, None
