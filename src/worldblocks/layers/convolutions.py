"""Convolutions with the padding of the reference, and what doubles or halves an image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks._cells import from_cells, to_cells
from worldblocks._eager import eager_on_cpu
from worldblocks.layers.few_channels import same_conv2d
from worldblocks.layers.linear import init_trunc_normal


class Conv2d(nn.Conv2d):
    """A convolution with bias and "same" padding as XLA does it, `N C H W -> N C' H/s W/s`.

    Where the total padding is odd the extra row and column go after the image; PyTorch's own
    symmetric padding shifts a stride-2 convolution by one pixel.

    Attributes:
        cell: pixels of the side of a cell of `cells`.
    """

    cell: int = 1

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
        check_images(self, input)
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1 and kernel % 2:
            return same_conv2d(input, self.weight, self.bias)
        sides = input.shape[2:]
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in sides]
        weight = self.weight
        if any(pad % 2 for pad in pads):
            # One more after than before: as many on both sides, and a kernel whose first is 0.
            weight = F.pad(weight, [pads[1] % 2, 0, pads[0] % 2, 0])
        padding = [(pad + 1) // 2 for pad in pads]
        # The gradient of an image that a convolution halves takes twice as long as that of cells.
        halves = stride == 2 and weight.shape[2] % 4 == 2 and not any(n % 2 for n in sides)
        if halves and input.requires_grad and eager_on_cpu(input):
            return _convolve_cells(input, weight, self.bias)
        return F.conv2d(input, weight, self.bias, self.stride, padding)

    def cells(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch cell*cell*out height_out width_out"]:
        """The result as cells, whose pixels are channels in the order row, column, channel."""
        return space_to_depth(self(input), self.cell)


def check_images(conv: nn.Conv2d, input: Float[Tensor, "..."]) -> None:
    """Refuse what is no batch of images of as many channels as a convolution reads."""
    if input.ndim != 4 or input.shape[1] != conv.in_channels:
        raise ValueError(
            f"{type(conv).__name__} takes images (batch, {conv.in_channels}, height, width), got "
            f"shape {tuple(input.shape)}"
        )


def _convolve_cells(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of stride 2 as one of stride 1 on 2×2 cells, whose pixels are channels.

    An even kernel of side 2m, m odd, that begins m - 1 rows before the row 2i it belongs to,
    reads m whole cells, the middle one at i.
    """
    taps = weight.shape[2] // 2
    kernel = weight.unflatten(3, (taps, 2)).unflatten(2, (taps, 2)).permute(0, 3, 5, 1, 2, 4)
    return F.conv2d(space_to_depth(input, 2), kernel.flatten(1, 3), bias, padding=taps // 2)


def space_to_depth(
    image: Float[Tensor, "batch channel cell*height cell*width"], side: int
) -> Float[Tensor, "batch cell*cell*channel height width"]:
    """The inverse of `depth_to_space`."""
    if side == 1:
        return image
    return to_cells(image.permute(0, 2, 3, 1), side).permute(0, 3, 1, 2)


def depth_to_space(
    cells: Float[Tensor, "batch cell*cell*channel height width"], side: int
) -> Float[Tensor, "batch channel cell*height cell*width"]:
    """Channels as pixels of cells of `side` by `side`, in the order row, column, channel.

    Read and written channels last.
    """
    return from_cells(cells.permute(0, 2, 3, 1), side).permute(0, 3, 1, 2)


def spread_matrix(
    spread: Float[Tensor, "cell tap kernel"],
) -> Float[Tensor, "kernel*kernel cell*cell*tap*tap"]:
    """What takes a kernel, entry by entry, to those of all pixels of a cell."""
    return torch.einsum("apd,bqe->deabpq", spread, spread).flatten(2).flatten(0, 1)


class CellConv2d(Conv2d):
    """A convolution of an enlarged image, computed on the small one.

    `N C H W -> N C' H*s W*s`. `spread[a, p, d]` says how much row i + p - m of the small image (p =
    0 … 2m) is row s i + a + d - pad of the enlarged one, which entry d of the kernel reads for row
    s i + a of the result. The kernel, spread so, is one of side 2m + 1 to s² channels for each
    output channel: the pixels of a cell. Exact, borders included.

    Source: sub-pixel convolution, Shi et al. 2016 (arXiv:1609.05158).
    """

    matrix: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, spread: Float[Tensor, "cell tap kernel"]
    ) -> None:
        super().__init__(in_channels, out_channels, spread.shape[2])
        self.cell, self.taps = spread.shape[:2]
        self.register_buffer("matrix", spread_matrix(spread), persistent=False)

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out height_out width_out"]:
        """Enlarge and convolve."""
        return depth_to_space(self.cells(input), self.cell)

    def cells(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch cell*cell*out height width"]:
        """The result before its pixels are brought to their places."""
        check_images(self, input)
        bias = None if self.bias is None else self.bias.repeat(self.cell**2)
        return same_conv2d(input, self._spread_kernel(), bias)

    def _spread_kernel(self) -> Float[Tensor, "cell*cell*out channel tap tap"]:
        """The kernel that gives the pixels of a cell: one product, as an update needs it anew."""
        sides = self.cell, self.cell, self.taps, self.taps
        kernel = (self.weight.flatten(2) @ self.matrix).unflatten(2, sides)
        return kernel.permute(2, 3, 0, 1, 4, 5).flatten(0, 2)


class UpConv2d(CellConv2d):
    """Nearest ×2 upsampling, then a 5×5 convolution: `N C H W -> N C' 2H 2W`.

    At the price of a 3×3 one at low resolution: row 2i + a + d - 2 of the upsampled image is row
    i + (a + d) // 2 - 1 of the small one.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        spread = torch.zeros(2, 3, 5)
        for a in range(2):
            for d in range(5):
                spread[a, (a + d) // 2, d] = 1
        super().__init__(in_channels, out_channels, spread)


class PooledConv2d(Conv2d):
    """A 5×5 convolution, then 2×2 max-pooling: `N C H W -> N C' H/2 W/2`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 5)

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out height//2 width//2"]:
        """Convolve and take the maximum of each 2×2 cell."""
        return F.max_pool2d(super().forward(input), 2)


class ConvTranspose2d(CellConv2d):
    """The reference's transposed convolution: spread the pixels `stride` apart, then convolve.

    `N C H W -> N C' H*s W*s`. Each pixel moves to index 1 (modulo stride) of an image `stride`
    times as large, zeros between; then a stride-1 "same" convolution. The zeros are not multiplied:
    a row of the result reads at most (kernel + 1) / stride rows of the small image.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int) -> None:
        if stride < 1 or kernel < stride:
            raise ValueError(
                f"a transposed convolution has a stride of at least 1 and a kernel at least as "
                f"large, got stride {stride} and kernel {kernel}"
            )
        first = 1 % stride
        before = (kernel - 1) // 2
        # Row s i + a reads row s i + a + d - before, which is row (that - first) / s if whole.
        shifts = [[a + d - before - first for d in range(kernel)] for a in range(stride)]
        reach = max(abs(shift) // stride for row in shifts for shift in row if not shift % stride)
        spread = torch.zeros(stride, 2 * reach + 1, kernel)
        for a, row in enumerate(shifts):
            for d, shift in enumerate(row):
                if not shift % stride:
                    spread[a, shift // stride + reach, d] = 1
        super().__init__(in_channels, out_channels, spread)
