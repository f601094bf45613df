"""The convolutional image encoder, and the stages that a picture of any size gets."""

from collections.abc import Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldblocks._wrong_call import as_tensor, described
from worldblocks.layers import ChannelNorm, Conv2d, PooledConv2d
from worldblocks.typing import placed

Size = int | tuple[int, int]
STAGES = (2, 3, 4, 4, 4)
LEAST = (8, 12, 24, 48, 257)
"""The longer side from which an image has one, two, … five stages."""
MOST = 512


class ImageEncoder(nn.Module):
    """A convolutional encoder: stages of 5×5 convolution, 2×2 max-pooling, RMSNorm and SiLU.

    Pixels enter as `x / 255 - 0.5`. With h halvings, each side is then padded with zeros at its end
    to a multiple of 2^h. The last feature map is flattened in height, width, channel order to

        embed_dim = ⌈height / 2^h⌉ ⌈width / 2^h⌉ mults[-1] depth

    Args:
        channels: channels of the image.
        size: the side of a square image, or (height, width).
        depth: a stage has `mult * depth` channels.
        mults: one multiple of `depth` per stage. By default those of `image_stages`, which are
            (2, 3, 4, 4) for the sizes that the reference accepts.
        strided: halve with stride-2 convolutions instead of max-pooling.
        outer: keep the full resolution in the first stage.

    Raises:
        ValueError: a side is outside 8 … 512 and `mults` is not given, or `mults` halve the image
            to less than a pixel.

    Source: the authors' released code of DreamerV3 (2024 and later), for sides of 48 to 256 that 16
    divides; padding and the other numbers of stages are ours.
    """

    def __init__(
        self,
        *,
        channels: int,
        size: Size,
        depth: int,
        mults: Sequence[int] | None = None,
        strided: bool = False,
        outer: bool = False,
    ) -> None:
        super().__init__()
        mults = image_stages(size, outer=outer) if mults is None else mults
        height, width = image_sides(size, mults, outer=outer)
        self.halvings = len(mults) - outer
        self.size, self.channels = size, channels
        widths = [channels, *(depth * mult for mult in mults)]
        halves = [not (outer and stage == 0) for stage in range(len(mults))]
        self.convs = nn.ModuleList(
            PooledConv2d(a, b)
            if halve and not strided
            else Conv2d(a, b, 5, stride=2 if halve else 1)
            for a, b, halve in zip(widths, widths[1:], halves, strict=False)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths[1:])
        self.embed_dim = height * width * widths[-1]

    @placed
    def forward(
        self, image: UInt8[Tensor, "*batch height width channel"]
    ) -> Float[Tensor, "*batch embed"]:
        """Encode uint8 images; floats raise, because their range is unknown."""
        if not isinstance(image, Tensor):
            raise TypeError(
                f"image should be a uint8 tensor, got {described(image)}; "
                f"{as_tensor(image, 'image')}"
            )
        if image.dtype != torch.uint8:
            raise TypeError(f"an image must be uint8 in 0…255, got {image.dtype}")
        height, width = both_sides(self.size)
        if image.shape[-3:] != (height, width, self.channels):
            raise ValueError(
                f"ImageEncoder takes images of {height}×{width}×{self.channels} (height, width, "
                f"channel), got shape {tuple(image.shape)}"
            )
        x = (image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2) / 255).sub_(0.5)
        return self.features(x).reshape(*image.shape[:-3], self.embed_dim)

    def features(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch embed"]:
        """Encode numbers that are scaled already."""
        x = x.to(self.convs[0].weight.dtype)  # type: ignore[arg-type]
        down, right = (-side % 2**self.halvings for side in x.shape[2:])
        if down or right:
            x = F.pad(x, (0, right, 0, down))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        return rearrange(x, "batch channel height width -> batch (height width channel)")


def both_sides(size: Size) -> tuple[int, int]:
    """(height, width) of a size, which is one number for a square."""
    sides = size if isinstance(size, tuple) else (size, size)
    if len(sides) != 2 or not all(isinstance(n, Integral) and n > 0 for n in sides):
        raise ValueError(
            f"the size of an image is one positive integer, or (height, width) such as (96, 64); "
            f"got {size!r}"
        )
    return sides


def image_stages(size: Size, *, outer: bool = False, least: int = LEAST[0]) -> tuple[int, ...]:
    """The multiples of `depth` of an image's stages, the first of (2, 3, 4, 4, 4).

    There are as many as the longer side needs halvings to 3 to 16 pixels: 1 for a side of 8 to 11,
    2 for 12 to 23, 3 for 24 to 47, 4 for 48 to 256 as in the reference, 5 above. With `outer`, one
    stage does not halve, and there are as many as for an image twice as large.

    Args:
        size: the side of a square image, or (height, width).
        outer: as for `ImageEncoder`.
        least: the shortest side that is accepted.

    Raises:
        ValueError: a side is outside `least` … 512.

    >>> image_stages(84), image_stages((28, 20)), image_stages((210, 300))
    ((2, 3, 4, 4), (2, 3, 4), (2, 3, 4, 4, 4))
    """
    height, width = both_sides(size)
    if not least <= min(height, width) <= max(height, width) <= MOST:
        raise ValueError(
            f"got an image of {height}×{width} pixels; its sides may have {least} to {MOST}: "
            f"resize it where the environment is made (--image 64 of a recipe, size=64 of "
            f"wb.envs.gym); a board or a map of classes is a wb.spaces.Grid, which may be smaller"
        )
    longer = max(height, width) * (2 if outer else 1)
    return STAGES[: max(1, sum(longer >= side for side in LEAST))]


def image_sides(size: Size, mults: Sequence[int], *, outer: bool = False) -> tuple[int, int]:
    """Height and width of the feature map of an image that is padded and halved.

    >>> image_sides(64, (2, 3, 4, 4)), image_sides((37, 51), (2, 3, 4, 4))
    ((4, 4), (3, 4))
    """
    height, width = both_sides(size)
    halvings, most = len(mults) - outer, max(height, width).bit_length()
    if not mults or not 0 <= halvings <= most:
        raise ValueError(
            f"an image of {height}×{width} pixels has {1 + outer} to {most + outer} stages with "
            f"outer={outer}, one for each multiple in `mults`; got mults={tuple(mults)}; without "
            f"`mults` their number follows the size"
        )
    return -(-height // 2**halvings), -(-width // 2**halvings)
