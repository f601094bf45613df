"""A CPU kernel for convolutions to few channels: two pixels of a row at a time.

A CPU multiplies sixteen numbers at once, contiguous along the output channels. With eight channels
half of them are idle. This kernel computes pixels 2j and 2j + 1 of a row as one pixel with twice
the channels. For a kernel of side 5 or 3 it needs a fifth or a third more products in half the
steps. The input gradient of an image with few channels is such a convolution too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from worldblocks._eager import eager_on_cpu

FEW = 8


def same_conv2d(
    input: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "out channel odd odd"],
    bias: Float[Tensor, " out"] | None,
) -> Float[Tensor, "batch out height width"]:
    """`F.conv2d` with zero padding that keeps the size of the image.

    Computed by pairs of pixels if that is faster: images of even width, channels last, float32.
    """
    if not _pays(input, weight):
        return _plain(input, weight, bias)
    if weight.shape[1] <= FEW and input.requires_grad and torch.is_grad_enabled():
        return FewChannels.apply(input, weight, bias)
    return (_by_pairs if len(weight) <= FEW else _plain)(input, weight, bias)


def _pays(input: Tensor, weight: Tensor) -> bool:
    return (
        weight.shape[-1] > 1
        and input.shape[3] % 2 == 0
        and eager_on_cpu(input)
        and not torch.is_autocast_enabled("cpu")
        and input.is_contiguous(memory_format=torch.channels_last)
    )


def _plain(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(input, weight, bias, padding=weight.shape[-1] // 2)


def _by_pairs(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same by pairs of pixels: the kernel for the first, shifted by one for the second.

    The result is exact, borders included.
    """
    n, c, h, w = input.shape
    kernel = torch.stack([F.pad(weight, (0, 1)), F.pad(weight, (1, 0))])
    bias, padding = None if bias is None else bias.repeat(2), weight.shape[-1] // 2
    if padding % 2:
        pairs = F.conv2d(input, kernel.flatten(0, 1), bias, stride=(1, 2), padding=padding)
    else:  # a kernel of whole pairs on the image viewed in pairs, without a stride
        kernel = kernel.unflatten(-1, (-1, 2)).movedim(-1, 2).flatten(2, 3)
        image = input.permute(0, 2, 3, 1).reshape(n, h, w // 2, 2 * c).permute(0, 3, 1, 2)
        pairs = F.conv2d(image, kernel.flatten(0, 1), bias, padding=(padding, padding // 2))
    # In channels-last memory, a pair of pixels is two pixels: this is a view.
    return pairs.permute(0, 2, 3, 1).reshape(n, h, w, len(weight)).permute(0, 3, 1, 2)


class FewChannels(torch.autograd.Function):
    """A convolution of few channels whose input gradient is computed by pairs of pixels."""

    @staticmethod
    def forward(ctx: Any, input: Any, weight: Any, bias: Any) -> Any:
        """The convolution."""
        ctx.save_for_backward(input, weight)
        return _plain(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:  # type: ignore[override]
        """All gradients, by differentiable operations."""
        input, weight = ctx.saved_tensors
        of_input, *of_rest = ctx.needs_input_grad
        to_input = _by_pairs(grad, weight.flip(2, 3).transpose(0, 1)) if of_input else None
        ones, padding = [1, 1], [weight.shape[-1] // 2] * 2
        rest = [[len(weight)], ones, padding, ones, False, [0, 0], 1, [False, *of_rest]]
        return to_input, *torch.ops.aten.convolution_backward(grad, input, weight, *rest)[1:]
