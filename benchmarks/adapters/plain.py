"""The work of an architecture: layers of ours that take a shorter way, counted as what they equal.

Two agents do the same work when their architectures need the same arithmetic, however cleverly one
of them goes about it. FLOPs are therefore counted with every layer in the form of its definition;
what is timed is the layer as it is. Whoever gives a layer a form with other arithmetic adds its
definition here; a test keeps the two equal.
"""

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

import torch.nn.functional as F
from torch import Tensor

from worldblocks import layers


def padded_convolution(self: "layers.Conv2d", input: Tensor) -> Tensor:
    """The convolution after explicit padding, the odd row and column after the image."""
    kernel, stride = self.kernel_size[0], self.stride[0]
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[:1:-1]]
    padded = F.pad(input, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
    return F.conv2d(padded, self.weight, self.bias, self.stride)


def upsample_and_convolve(self: "layers.UpConv2d", input: Tensor) -> Tensor:
    """Nearest ×2, then the 5×5 convolution at the high resolution."""
    return F.conv2d(F.interpolate(input, scale_factor=2.0), self.weight, self.bias, padding=2)


def transposed_convolution(self: "layers.ConvTranspose2d", input: Tensor) -> Tensor:
    """The convolution that does not multiply the zeros between the pixels."""
    stride = self.cell
    side = input.shape[-1] * stride
    middle = self.weight.shape[-1] // 2
    weight = self.weight.transpose(0, 1).flip(2, 3)
    out = F.conv_transpose2d(input, weight, self.bias, stride=stride, padding=middle - 1)
    return out[..., :side, :side]


def convolve_and_pool(self: "layers.PooledConv2d", input: Tensor) -> Tensor:
    """The 5×5 convolution, then the maximum."""
    return F.max_pool2d(F.conv2d(input, self.weight, self.bias, padding=2), 2)


# By name: an older worldblocks, which a comparison measures too, may lack some.
DEFINITIONS = {
    "Conv2d": padded_convolution,
    "PooledConv2d": convolve_and_pool,
    "UpConv2d": upsample_and_convolve,
    "ConvTranspose2d": transposed_convolution,
}


@contextlib.contextmanager
def plain_layers() -> Iterator[None]:
    """Inside, these layers run as they are defined."""
    with contextlib.ExitStack() as stack:
        for name, forward in DEFINITIONS.items():
            kind = getattr(layers, name, None)
            if kind is None:
                continue
            stack.enter_context(patch.object(kind, "forward", forward))
            if hasattr(kind, "cells"):  # by way of `forward`
                stack.enter_context(patch.object(kind, "cells", layers.Conv2d.cells))
        yield
