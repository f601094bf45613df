"""Convolutions with the padding of the reference, some of which halve or double an image."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks._eager import eager_on_cpu
from worldblocks.layers.few_channels import same_conv2d
from worldblocks.layers.linear import init_trunc_normal


class Conv2d(nn.Conv2d):
    """A convolution with bias and the "same" padding of XLA, `N C H W -> N C' H/s W/s`.

    If the total padding is odd, the extra row and column go after the image. PyTorch's symmetric
    padding would shift a stride-2 convolution by one pixel.
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
        """Initialise the kernel, zero the bias."""
        init_trunc_normal(self.weight, self.weight[0].numel(), self.outscale)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out height_out width_out"]:
        """Convolve with zero padding."""
        check_images(self, input)
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1 and kernel % 2:
            return same_conv2d(input, self.weight, self.bias)
        sides = input.shape[2:]
        pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in sides]
        weight = self.weight
        if any(pad % 2 for pad in pads):
            # One more pixel after than before: pad both sides alike, and the kernel with a 0 first.
            weight = F.pad(weight, [pads[1] % 2, 0, pads[0] % 2, 0])
        padding = [(pad + 1) // 2 for pad in pads]
        # The input gradient of a stride-2 convolution takes twice as long as with 2×2 cells.
        halves = stride == 2 and weight.shape[2] % 4 == 2 and not any(n % 2 for n in sides)
        if halves and input.requires_grad and eager_on_cpu(input):
            return _convolve_cells(input, weight, self.bias)
        return F.conv2d(input, weight, self.bias, self.stride, padding)


def check_images(conv: nn.Conv2d, input: Float[Tensor, "..."]) -> None:
    """Raise unless the input is a batch of images with the input channels of the convolution."""
    if input.ndim != 4 or input.shape[1] != conv.in_channels:
        raise ValueError(
            f"{type(conv).__name__} takes images (batch, {conv.in_channels}, height, width), got "
            f"shape {tuple(input.shape)}"
        )


def _convolve_cells(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A stride-2 convolution as a stride-1 convolution over 2×2 cells in the sub-pixel layout.

    An even kernel of side 2m, m odd, that starts m - 1 rows before its row 2i reads m whole cells,
    the middle one at i.
    """
    pattern = "out channel (i row) (j column) -> out (row column channel) i j"
    kernel = rearrange(weight, pattern, row=2, column=2)
    return F.conv2d(space_to_depth(input, 2), kernel, bias, padding=weight.shape[2] // 4)


def space_to_depth(
    image: Float[Tensor, "batch channel side*height side*width"], side: int
) -> Float[Tensor, "batch side*side*channel height width"]:
    """`rearrange(image, "n c (h row) (w column) -> n (row column c) h w")`, channels last.

    Stacking whole rows of a cell takes a third of the time of that transposed copy.
    """
    n, c, h, w = image.shape
    rows = image.permute(0, 2, 3, 1).reshape(n, h // side, side, w // side, side * c)
    return torch.stack(rows.unbind(2), 3).flatten(3).permute(0, 3, 1, 2)


def depth_to_space(
    cells: Float[Tensor, "batch side*side*channel height width"], side: int
) -> Float[Tensor, "batch channel side*height side*width"]:
    """The inverse of `space_to_depth`, channels last."""
    n, c, h, w = cells.shape
    rows = cells.permute(0, 2, 3, 1).reshape(n, h, w, side, c // side)
    image = torch.stack(rows.unbind(3), 2).reshape(n, side * h, side * w, c // side**2)
    return image.permute(0, 3, 1, 2)


class SubPixelConv2d(Conv2d):
    """A convolution of an enlarged image, computed on the small image.

    `N C H W -> N C' H*s W*s`. For row s i + a of the result, entry d of the kernel reads row
    s i + a + d - pad of the enlarged image. `spread[a, p, d]` is the weight of row i + p - m of the
    small image in that row, for p = 0 … 2m. The spread kernel has side 2m + 1 and s² outputs for
    each output channel, the pixels of a cell. The result is exact, borders included.

    Source: sub-pixel convolution, Shi et al. 2016 (arXiv:1609.05158).
    """

    matrix: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, spread: Float[Tensor, "side tap kernel"]
    ) -> None:
        super().__init__(in_channels, out_channels, spread.shape[2])
        self.side, self.taps = spread.shape[:2]
        # From a flattened kernel to the flattened kernels of all pixels of a cell.
        matrix = rearrange(
            torch.einsum("apd,bqe->deabpq", spread, spread), "d e a b p q -> (d e) (a b p q)"
        )
        self.register_buffer("matrix", matrix, persistent=False)

    def forward(
        self, input: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch out height_out width_out"]:
        """Enlarge and convolve."""
        check_images(self, input)
        bias = None if self.bias is None else self.bias.repeat(self.side**2)
        pattern = "out channel (row column i j) -> (row column out) channel i j"
        sides = {"row": self.side, "column": self.side, "i": self.taps, "j": self.taps}
        kernel = rearrange(self.weight.flatten(2) @ self.matrix, pattern, **sides)
        return depth_to_space(same_conv2d(input, kernel, bias), self.side)


class UpConv2d(SubPixelConv2d):
    """Nearest ×2 upsampling, then a 5×5 convolution: `N C H W -> N C' 2H 2W`.

    It costs as much as a 3×3 convolution at low resolution: row 2i + a + d - 2 of the upsampled
    image is row i + (a + d) // 2 - 1 of the small image.
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


class ConvTranspose2d(SubPixelConv2d):
    """The transposed convolution of the reference: place pixels `stride` apart, then convolve.

    `N C H W -> N C' H*s W*s`. Each pixel moves to index 1 (modulo stride) of an image `stride`
    times as large with zeros in between, followed by a stride-1 "same" convolution. The zeros are
    not multiplied: a row of the result reads at most (kernel + 1) / stride rows of the small image.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int) -> None:
        if stride < 1 or kernel < stride:
            raise ValueError(
                f"a transposed convolution needs a stride of at least 1 and a kernel at least as "
                f"large, got stride {stride} and kernel {kernel}"
            )
        first = 1 % stride
        before = (kernel - 1) // 2
        # Row s i + a reads row s i + a + d - before, row (a + d - before - first) / s + i if whole.
        shifts = [[a + d - before - first for d in range(kernel)] for a in range(stride)]
        reach = max(abs(shift) // stride for row in shifts for shift in row if not shift % stride)
        spread = torch.zeros(stride, 2 * reach + 1, kernel)
        for a, row in enumerate(shifts):
            for d, shift in enumerate(row):
                if not shift % stride:
                    spread[a, shift // stride + reach, d] = 1
        super().__init__(in_channels, out_channels, spread)
