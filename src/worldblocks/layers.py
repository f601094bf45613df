"""Layers of DreamerV3: linear maps and convolutions with its initialiser, RMSNorm, MLP.

A *layer* is always linear map with bias -> RMSNorm -> SiLU. Every kernel starts as a truncated
normal of standard deviation `outscale / sqrt(fan_in)`, every bias at 0, every scale at 1.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@torch.no_grad()
def init_trunc_normal(weight: Float[Tensor, "..."], fan_in: int, outscale: float = 1.0) -> None:
    """Fill with a normal truncated at two deviations, standard deviation `outscale/sqrt(fan_in)`.

    The truncation shrinks a unit normal to 1 / 1.1368, which is undone: |w| <= 2.27 / sqrt(fan_in).

    Source: the authors' released code (`trunc_normal_in`).
    """
    nn.init.trunc_normal_(weight, std=1.0, a=-2.0, b=2.0)
    weight.mul_(1.1368 * outscale / math.sqrt(fan_in))


class Linear(nn.Linear):
    """A linear map with bias, `... in -> ... out`; `outscale` multiplies the initial kernel."""

    def __init__(self, in_features: int, out_features: int, *, outscale: float = 1.0) -> None:
        self.outscale = outscale
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Draw the kernel, zero the bias."""
        init_trunc_normal(self.weight, self.in_features, self.outscale)
        nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch out"]:
        """Map the last axis."""
        check_width("input of Linear", input, self.in_features)
        return super().forward(input)


class BlockLinear(nn.Module):
    """A block-diagonal linear map: `blocks` groups of inputs, each to its own group of outputs.

    The weight is `blocks in/blocks out/blocks`, one parameter. Its initialiser counts the whole
    input width as fan-in, not a block's: weights are smaller by sqrt(blocks).

    Source: the authors' released code (`BlockLinear`).
    """

    def __init__(self, in_features: int, out_features: int, *, blocks: int, outscale: float = 1.0):
        super().__init__()
        for name, width in (("in_features", in_features), ("out_features", out_features)):
            if width % blocks:
                raise ValueError(
                    f"BlockLinear needs {name} divisible by {blocks} blocks, got {width}"
                )
        self.blocks = blocks
        self.weight = nn.Parameter(
            torch.empty(blocks, in_features // blocks, out_features // blocks)
        )
        self.bias = nn.Parameter(torch.zeros(out_features))
        init_trunc_normal(self.weight, in_features, outscale)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch out"]:
        """Map each group of features by its own block."""
        check_width("input of BlockLinear", x, self.blocks * self.weight.shape[1])
        out = block_matmul(x, self.weight).flatten(-2)
        return out + self.bias.to(out.dtype)


def block_matmul(
    x: Float[Tensor, "*batch feature"], weight: Float[Tensor, "blocks feature_in out"]
) -> Float[Tensor, "*batch blocks out"]:
    """Each block of features times its own matrix.

    One batched product over the blocks: broadcasting `@` would copy the weight for every row.
    """
    grouped = x.reshape(-1, *weight.shape[:2]).transpose(0, 1)
    out = torch.bmm(grouped, weight).transpose(0, 1)
    return out.reshape(*x.shape[:-1], *out.shape[1:])


def check_width(what: str, x: Float[Tensor, "..."], width: int) -> None:
    """Refuse another size of the last axis than a layer was built for, naming both."""
    if not x.ndim or x.shape[-1] != width:
        raise ValueError(f"{what} should be {width} wide (last axis), got shape {tuple(x.shape)}")


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x²) + eps) * scale` over the last axis, in float32, cast back; no shift.

    Source: Zhang & Sennrich 2019 (arXiv:1910.07467); eps 1e-4 as in DreamerV3's released code.

    >>> [round(x, 4) for x in RMSNorm(2)(torch.tensor([3.0, 4.0])).tolist()]
    [0.8485, 1.1314]
    """

    def __init__(self, size: int, *, eps: float = 1e-4) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Normalise the last axis."""
        check_width("input of RMSNorm", x, len(self.scale))
        return F.rms_norm(x.float(), self.scale.shape, self.scale, self.eps).to(x.dtype)


class Layer(nn.Module):
    """Linear map -> RMSNorm -> SiLU, `... in -> ... out`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = Linear(in_features, out_features)
        self.norm = RMSNorm(out_features)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch out"]:
        """Map, normalise, activate."""
        return self.activate(self.linear(x))

    def activate(self, x: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """Norm and activation alone, for a linear map that was computed in parts."""
        return F.silu(self.norm(x))


class MLP(nn.Sequential):
    """`layers` layers of `units`: `... in -> ... units`."""

    def __init__(self, in_features: int, *, units: int, layers: int) -> None:
        if layers < 1:
            raise ValueError(f"an MLP has at least 1 layer, got {layers}")
        widths = [in_features] + [units] * layers
        super().__init__(*(Layer(a, b) for a, b in itertools.pairwise(widths)))
        self.out_features = units


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
        kernel = torch.einsum("ocde,apd,bqe->oabcpq", self.weight, self.spread, self.spread)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(input, kernel.flatten(0, 2), bias, padding=1), 2)


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
        return F.silu(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
