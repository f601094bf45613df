"""The convolutional image encoder."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldblocks._wrong_call import as_tensor, described
from worldblocks.layers import ChannelNorm, Conv2d, PooledConv2d
from worldblocks.typing import placed


class ImageEncoder(nn.Module):
    """A convolutional encoder: stages of 5×5 convolution, 2×2 max-pooling, RMSNorm and SiLU.

    Pixels enter as `x / 255 - 0.5`. The last feature map is flattened in height, width, channel
    order to `embed_dim = (size / 16)² * mults[-1] * depth` (with four stages).

    Args:
        channels: channels of the image.
        size: height and width of the image, such that 3 to 16 pixels remain after the last stage.
        depth: a stage has `mult * depth` channels.
        mults: one multiple of `depth` per stage.
        strided: halve with stride-2 convolutions instead of max-pooling.
        outer: keep the full resolution in the first stage.

    Source: the authors' released code of DreamerV3 (2024 and later).
    """

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        depth: int,
        mults: Sequence[int] = (2, 3, 4, 4),
        strided: bool = False,
        outer: bool = False,
    ) -> None:
        super().__init__()
        side = image_side(size, len(mults) - outer)
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
        self.embed_dim = side * side * widths[-1]

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
        if image.shape[-3:] != (self.size, self.size, self.channels):
            raise ValueError(
                f"ImageEncoder takes images of {self.size}×{self.size}×{self.channels} (height, "
                f"width, channel), got shape {tuple(image.shape)}"
            )
        x = (image.reshape(-1, *image.shape[-3:]).permute(0, 3, 1, 2) / 255).sub_(0.5)
        x = x.to(self.convs[0].weight.dtype)  # type: ignore[arg-type]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x))
        flat = rearrange(x, "batch channel height width -> batch (height width channel)")
        return flat.reshape(*image.shape[:-3], self.embed_dim)


def image_side(size: int, halvings: int) -> int:
    """The side of an image after halving it: 3 to 16 pixels, as in the reference."""
    side, rest = divmod(size, 2**halvings)
    if rest or not 3 <= side <= 16:
        raise ValueError(
            f"an image of side {size} halved {halvings} times must leave an integer side of 3 to "
            f"16 pixels; sides that work: {', '.join(str(n * 2**halvings) for n in range(3, 17))}"
        )
    return side
