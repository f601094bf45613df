"""A CPU kernel for RMSNorm and SiLU, one function with its own backward pass.

Small operations and passes over large tensors are slow on a CPU. These functions need half as many
of both as autograd through `F.silu(F.rms_norm(x))`, which they must equal.
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

MANY = 2**16  # numbers; feature maps have more, feature vectors fewer
NARROW = 32  # channels; shorter rows are slow to process one by one


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
    """`x * root * scale`, the input of the SiLU, and `root = 1 / sqrt(mean(x²) + eps)`."""
    n = x.shape[-1]
    if n < NARROW and x.numel() > MANY:  # the rounding of `mv` depends on the number of rows
        mean = torch.mv(x.square().view(-1, n), x.new_full((n,), 1 / n))
        root = mean.add_(eps).rsqrt_().view(*x.shape[:-1], 1)
    else:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        root = torch.addcmul(_constant(eps), norm, norm, value=1 / n).rsqrt_()
    return _scale(torch.mul(x, root, out=out), scale), root


@functools.cache
def _constant(value: float) -> Float[Tensor, ""]:
    """A number as a cached tensor; PyTorch would create a new one for each operation."""
    with torch.inference_mode(False):
        return torch.tensor(value, device="cpu")


def _scale(
    x: Float[Tensor, "*batch feature"], scale: Float[Tensor, "... feature"]
) -> Float[Tensor, "*batch feature"]:
    """`x * scale` in place, several narrow rows at once."""
    n, rows = x.shape[-1], 8
    if n >= NARROW or scale.ndim > 1 or x.numel() % (n * rows) or not x.is_contiguous():
        return x.mul_(scale)
    x.view(-1, n * rows).mul_(torch.cat([scale] * rows))  # quicker than `repeat`
    return x


class FusedRMSNormSiLU(torch.autograd.Function):
    """`silu(x / sqrt(mean(x²) + eps) * scale)` over the last axis, float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, scale: Any, eps: float) -> Any:
        """Apply both and save tensors for the backward pass."""
        y, root = scaled(x, scale, eps)
        ctx.save_for_backward(x, scale, y, root)
        ctx.eps = eps
        return F.silu(y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, Any, None]:  # type: ignore[override]
        """Gradients of `x` and `scale`, by autograd if they are differentiated again."""
        x, scale, y, root = ctx.saved_tensors
        if torch.is_grad_enabled():
            # As new tensors: `x` may depend on `scale`, whose gradient through `x` is separate.
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
        # mean(grad * scale * x) * root²: what the norm takes out along x.
        along = torch.mv(product, scale / n).mul_(flat).mul_(flat).view(root.shape)
        to_x = _scale(grad, scale).addcmul_(x, along, value=-1).mul_(root)
        return to_x, to_scale, None
