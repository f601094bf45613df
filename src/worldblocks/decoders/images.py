"""The convolutional image decoder."""

from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.distributions import SigmoidImageMSE
from worldblocks.encoders import image_side
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
        channels, size: channels and side of the image.
        depth, mults, strided, outer: as for `ImageEncoder`; `strided` uses transposed convolutions
            instead of upsampling.
        units: the stochastic state passes through a layer of `2 * units`.
        blocks: number of blocks of the block-linear map.

    Source: the authors' released code of DreamerV3 (2024 and later).
    """

    def __init__(
        self,
        *,
        deter: int,
        stoch: int,
        channels: int,
        size: int,
        depth: int,
        units: int,
        blocks: int = 8,
        mults: tuple[int, ...] = (2, 3, 4, 4),
        strided: bool = False,
        outer: bool = False,
    ) -> None:
        super().__init__()
        self.side = image_side(size, len(mults) - outer)
        widths = [depth * mult for mult in mults]
        if widths[-1] % blocks:
            raise ValueError(
                f"ImageDecoder needs depth * mults[-1] divisible by {blocks} blocks, got "
                f"{depth} * {mults[-1]}"
            )
        self.channels = channels
        flat = self.side * self.side * widths[-1]
        self.from_deter = BlockLinear(deter, flat, blocks=blocks)
        self.from_stoch = nn.Sequential(Layer(stoch, 2 * units), Linear(2 * units, flat))
        self.norm = ChannelNorm(widths[-1])
        self.convs, self.norms, self.out = stages(widths, channels, strided, outer)

    @typed
    def forward(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> SigmoidImageMSE:
        """Decode to an output whose `mean` is `*batch height width channel` in [0, 1]."""
        sides = {"height": self.side, "width": self.side}
        spatial = rearrange(
            self.from_deter(deter),
            "... (blocks height width part) -> (...) (blocks part) height width",
            blocks=self.from_deter.blocks,
            **sides,
        )
        mixed = rearrange(
            self.from_stoch(stoch),
            "... (height width channel) -> (...) channel height width",
            **sides,
        )
        logit = draw(self.norm(spatial + mixed), self.convs, self.norms, self.out)
        shape = *deter.shape[:-1], *logit.shape[1:]
        return SigmoidImageMSE(logit.reshape(shape))


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
) -> Float[Tensor, "batch height width channel"]:
    """From the smallest feature map to the logits of the pixels."""
    for conv, norm in zip(convs, norms, strict=True):
        x = norm(conv(x))
    return rearrange(out(x), "batch channel height width -> batch height width channel")


def _double(a: int, b: int, strided: bool) -> Conv2d:
    """A convolution that doubles the resolution."""
    return ConvTranspose2d(a, b, 5, stride=2) if strided else UpConv2d(a, b)
