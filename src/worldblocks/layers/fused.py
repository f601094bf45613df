"""RMSNorm and SiLU as one function with its own backward pass, for a CPU.

A CPU is slow at many small operations and at many passes over a large tensor. These functions take
half as many of both as autograd through `F.silu(F.rms_norm(x))`, which is what they must equal.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

MANY = 2**16  # numbers: feature maps, not feature vectors
NARROW = 32  # channels below which a row is shorter than what the CPU likes to work on at once


def rms_norm_silu(
    x: Float[Tensor, "*batch feature"], scale: Float[Tensor, " feature"], eps: float
) -> Float[Tensor, "*batch feature"]:
    """`silu(x / sqrt(mean(x²) + eps) * scale)` over the last axis."""
    x = x.contiguous()
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad):
        return FusedRMSNormSiLU.apply(x, scale, eps)
    return F.silu(scaled(x, scale, eps)[0], inplace=True)


def scaled(
    x: Float[Tensor, "*batch feature"],
    scale: Float[Tensor, "... feature"],
    eps: float,
    out: Float[Tensor, "*batch feature"] | None = None,
) -> tuple[Float[Tensor, "*batch feature"], Float[Tensor, "*batch 1"]]:
    """`x * root * scale`, whose SiLU is the output, and `root = 1 / sqrt(mean(x²) + eps)`."""
    n = x.shape[-1]
    if n < NARROW and x.numel() > MANY:  # how a product rounds a row depends on how many there are
        mean = torch.mv(x.square().view(-1, n), x.new_full((n,), 1 / n))
        root = mean.add_(eps).rsqrt_().view(*x.shape[:-1], 1)
    else:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        root = torch.addcmul(_constant(eps), norm, norm, value=1 / n).rsqrt_()
    return _scale(torch.mul(x, root, out=out), scale), root


@functools.cache
def _constant(value: float) -> Float[Tensor, ""]:
    """A number as a tensor: PyTorch would make a new one of it at each operation."""
    with torch.inference_mode(False):
        return torch.tensor(value, device="cpu")


def _scale(
    x: Float[Tensor, "*batch feature"], scale: Float[Tensor, "... feature"]
) -> Float[Tensor, "*batch feature"]:
    """`x * scale` in the memory of `x`, several narrow rows at once."""
    n, rows = x.shape[-1], 8
    if n >= NARROW or scale.ndim > 1 or x.numel() % (n * rows) or not x.is_contiguous():
        return x.mul_(scale)
    x.view(-1, n * rows).mul_(torch.cat([scale] * rows))  # quicker than `repeat`
    return x


class FusedRMSNormSiLU(torch.autograd.Function):
    """`silu(x / sqrt(mean(x²) + eps) * scale)` over the last axis, float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, eps: float) -> Any:
        """Keep what the backward pass reads."""
        y, root = scaled(x, scale, eps)
        ctx.save_for_backward(x, scale, y, root)
        ctx.eps = eps
        return F.silu(y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, Any, None]:  # type: ignore[override]
        """Gradients of `x` and `scale`; where they are differentiated again, autograd's own."""
        x, scale, y, root = ctx.saved_tensors
        if torch.is_grad_enabled():
            # As tensors of their own: `x` may come from `scale`, which has another gradient there.
            x, scale = x.view_as(x), scale.view_as(scale)
            plain = F.silu(F.rms_norm(x, scale.shape, scale, ctx.eps))
            needed = [a for a in (x, scale) if a.requires_grad]
            found = iter(torch.autograd.grad(plain, needed, grad, create_graph=True))
            to_x = next(found) if x.requires_grad else None
            return to_x, next(found) if scale.requires_grad else None, None
        n = x.shape[-1]
        grad = torch.ops.aten.silu_backward(grad.contiguous(), y)
        product = (grad * x).view(-1, n)
        flat = root.view(-1)
        to_scale = torch.mv(product.t(), flat)
        # Of the unit x * root: its product with grad * scale, averaged, times root again.
        along = torch.mv(product, scale / n).mul_(flat).mul_(flat).view(root.shape)
        to_x = _scale(grad, scale).addcmul_(x, along, value=-1).mul_(root)
        return to_x, to_scale, None
