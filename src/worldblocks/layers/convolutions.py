"""Convolutions with the padding of the reference, and what doubles or halves an image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.layers.linear import init_trunc_normal
from worldblocks.layers.normed import RMSNorm


class Conv2d(nn.Conv2d):
    """A convolution with bias and "same" padding as XLA does it, `N C H W -> N C' H/s W/s`.

    Where the total padding is odd the extra row and column go after the image; PyTorch's own
    symmetric padding shifts a stride-2 convolution by one pixel.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        outscale: float = 1.0,
    ) -> None:
        self.outscale = outscale
        super().__init__(in_channels, out_channels, kernel, stride)

    def reset_parameters(self) -> None:
        """Draw the kernel, zero the bias."""
        init_trunc_normal(self.weight, self.weight[0].numel(), self.outscale)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out height_out width_out"]:
        """Convolve, padding with zeros."""
        x = input
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[:1:-1]]
        if all(pad % 2 == 0 for pad in pads):
            padding = (pads[1] // 2, pads[0] // 2)
            return F.conv2d(x, self.weight, self.bias, self.stride, padding)
        x = F.pad(x, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
        return F.conv2d(x, self.weight, self.bias, self.stride)


class UpConv2d(Conv2d):
    """Nearest ×2 upsampling, then a 5×5 convolution, at the price of a 3×3 one at low resolution.

    `N C H W -> N C' 2H 2W`. Output pixel 2i + a reads rows 2i + a + d - 2 (d = 0 … 4) of the
    upsampled image, which is row i + (a + d) // 2 - 1 of the small one: three rows for each a. So
    the kernel, its rows added up accordingly, is a 3×3 convolution to four channels for each
    output channel, which are the pixels of a 2×2 cell. Exact, borders included.

    Source: sub-pixel convolution, Shi et al. 2016 (arXiv:1609.05158).
    """

    spread: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5)
        spread = torch.zeros(2, 3, 5)
        for a in range(2):
            for d in range(5):
                spread[a, (a + d) // 2, d] = 1
        self.register_buffer("spread", spread, persistent=False)

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out 2*height 2*width"]:
        """Upsample and convolve."""
        kernel = torch.einsum("ocde,apd,bqe->abocpq", self.weight, self.spread, self.spread)
        bias = None if self.bias is None else self.bias.repeat(4)
        cells = F.conv2d(input, kernel.flatten(0, 2), bias, padding=1)
        n, _, h, w = cells.shape
        # Channels last: the pixels of one row of a cell lie side by side, and move as one.
        cells = cells.permute(0, 2, 3, 1).reshape(n, h, w, 2, -1).transpose(2, 3)
        return cells.reshape(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


class PooledConv2d(Conv2d):
    """A 5×5 convolution, then 2×2 max-pooling: `N C H W -> N C' H/2 W/2`, H and W even.

    On a CPU and for few channels as one 6×6 convolution of stride 2 to the four pixels of each 2×2
    cell, 4 C' channels, whose maximum is the result: a third more products, but on channels enough
    to be fast. Pixel 2i + a reads rows 2i + a + d - 2 (d = 0 … 4), which is row a + d of the six
    that begin at 2i - 2. Exact, borders included.
    """

    FEW = 4  # channels
    spread: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5)
        spread = torch.zeros(2, 6, 5)
        for a in range(2):
            for d in range(5):
                spread[a, a + d, d] = 1
        self.register_buffer("spread", spread, persistent=False)

    def forward(
        self, input: Float[Tensor, "batch channel 2*height 2*width"]
    ) -> Float[Tensor, "batch out height width"]:
        """Convolve and take the maximum of each 2×2 cell."""
        slow = input.device.type != "cpu" or torch.compiler.is_compiling()
        if slow or self.in_channels > self.FEW or input.dtype != torch.float32:
            return F.max_pool2d(super().forward(input), 2)
        kernel = torch.einsum("ocde,apd,bqe->abocpq", self.weight, self.spread, self.spread)
        bias = None if self.bias is None else self.bias.repeat(4)
        cells = F.conv2d(input, kernel.flatten(0, 2), bias, stride=2, padding=2)
        n, _, h, w = cells.shape
        # Seen as an image of one cell a row, channels last, so that pooling reads it as it lies.
        rows = cells.permute(0, 2, 3, 1).reshape(n, h * w, 4, -1).permute(0, 3, 1, 2)
        return F.max_pool2d(rows, (1, 4)).view(n, -1, h, w)


class ConvTranspose2d(Conv2d):
    """The reference's transposed convolution: spread the pixels `stride` apart, then convolve.

    Each pixel moves to index 1 (modulo stride) of an image `stride` times as large, zeros between;
    then a stride-1 "same" convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        outscale: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, outscale=outscale)
        self.spread = stride

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out height_out width_out"]:
        """Spread and convolve, `N C H W -> N C' H*s W*s`."""
        x, s = input, self.spread
        if s > 1:
            n, c, h, w = x.shape
            spread = x.new_zeros(n, c, h, s, w, s)
            spread[:, :, :, 1, :, 1] = x
            x = spread.reshape(n, c, h * s, w * s)
        return super().forward(x)


class ChannelNorm(nn.Module):
    """`RMSNorm` over the channels of each pixel of `N C H W`, then SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Normalise and activate each pixel; the result is stored channels last."""
        return self.norm.silu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
