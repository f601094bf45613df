"""The convolutional image decoder."""

from collections.abc import Sequence
from math import gcd, prod

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.distributions import SigmoidImageMSE
from worldblocks.encoders import both_sides, image_sides, image_stages
from worldblocks.encoders.images import Size
from worldblocks.layers import (
    BlockLinear,
    ChannelNorm,
    Conv2d,
    ConvTranspose2d,
    Layer,
    Linear,
    UpConv2d,
)
from worldblocks.typing import typed


class ImageDecoder(nn.Module):
    """The mirror of `ImageEncoder`: from a latent state to an image.

    A small feature map is computed from both parts of the state, followed by stages of nearest ×2
    upsampling and 5×5 convolution, and a sigmoid. The feature map is `side side (mults[-1] *
    depth)`: a block-linear map gives each block of the deterministic state its own channels at
    every pixel, a two-layer map of the stochastic state is added, then norm and activation.

    Args:
        deter, stoch: widths of the two parts of the state (`stoch` flattened).
        channels, size: channels of the image, and its side or (height, width). What was padded is
            cropped before the loss sees it.
        depth, mults, strided, outer: as for `ImageEncoder`; `strided` uses transposed convolutions
            instead of upsampling.
        units: the stochastic state passes through a layer of `2 * units`.
        blocks: number of blocks of the block-linear map. An image with fewer than three stages, and
            so with fewer channels in its first map, has the largest number of blocks that divides
            both.

    Source: the authors' released code of DreamerV3 (2024 and later).
    """

    def __init__(
        self,
        *,
        deter: int,
        stoch: int,
        channels: int,
        size: Size,
        depth: int,
        units: int,
        blocks: int = 8,
        mults: Sequence[int] | None = None,
        strided: bool = False,
        outer: bool = False,
    ) -> None:
        super().__init__()
        if mults is None:
            mults = image_stages(size, outer=outer)
            blocks = common_blocks(depth, mults, blocks)
        self.sides = image_sides(size, mults, outer=outer)
        widths = [depth * mult for mult in mults]
        if widths[-1] % blocks:
            raise ValueError(
                f"ImageDecoder needs depth * mults[-1] divisible by {blocks} blocks, got "
                f"{depth} * {mults[-1]}"
            )
        self.channels, self.size = channels, both_sides(size)
        flat = prod(self.sides) * widths[-1]
        self.from_deter = BlockLinear(deter, flat, blocks=blocks)
        self.from_stoch = nn.Sequential(Layer(stoch, 2 * units), Linear(2 * units, flat))
        self.norm = ChannelNorm(widths[-1])
        self.convs, self.norms, self.out = stages(widths, channels, strided, outer)

    @typed
    def forward(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> SigmoidImageMSE:
        """Decode to an output whose `mean` is `*batch height width channel` in [0, 1]."""
        return SigmoidImageMSE(self.logit(deter, stoch))

    def logit(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> Float[Tensor, "*batch height width channel"]:
        """The numbers of each pixel before the sigmoid."""
        height, width = self.sides
        spatial = rearrange(
            self.from_deter(deter),
            "... (blocks height width part) -> (...) (blocks part) height width",
            blocks=self.from_deter.blocks,
            height=height,
            width=width,
        )
        mixed = rearrange(
            self.from_stoch(stoch),
            "... (height width channel) -> (...) channel height width",
            height=height,
            width=width,
        )
        logit = draw(self.norm(spatial + mixed), self.convs, self.norms, self.out, self.size)
        return logit.reshape((*deter.shape[:-1], *logit.shape[1:]))


def common_blocks(depth: int, mults: Sequence[int], blocks: int) -> int:
    """Blocks that divide the first map too, which is narrow if there are one or two stages."""
    return gcd(depth * mults[-1], blocks) if len(mults) < 3 else blocks


def stages(
    widths: Sequence[int], channels: int, strided: bool, outer: bool
) -> tuple[nn.ModuleList, nn.ModuleList, Conv2d]:
    """The convolutions that double the resolution, their norms, and the output convolution."""
    pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
    convs = nn.ModuleList(_double(a, b, strided) for a, b in pairs)
    norms = nn.ModuleList(ChannelNorm(b) for _, b in pairs)
    last = widths[0], channels
    return convs, norms, Conv2d(*last, 5) if outer else _double(*last, strided)


def draw(
    x: Float[Tensor, "batch channel height width"],
    convs: nn.ModuleList,
    norms: nn.ModuleList,
    out: Conv2d,
    size: tuple[int, int],
) -> Float[Tensor, "batch height width channel"]:
    """From the smallest feature map to the logits of the pixels, without the padding."""
    for conv, norm in zip(convs, norms, strict=True):
        x = norm(conv(x))
    x = rearrange(out(x), "batch channel height width -> batch height width channel")
    return x if x.shape[1:3] == size else x[:, : size[0], : size[1]]


def _double(a: int, b: int, strided: bool) -> Conv2d:
    """A convolution that doubles the resolution."""
    return ConvTranspose2d(a, b, 5, stride=2) if strided else UpConv2d(a, b)
