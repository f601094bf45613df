"""The decoder of a variational autoencoder."""

from collections.abc import Sequence
from math import prod

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.decoders.images import draw, stages
from worldblocks.distributions import SigmoidImageMSE
from worldblocks.encoders import both_sides, image_sides, image_stages
from worldblocks.encoders.images import Size
from worldblocks.layers import ChannelNorm, Linear
from worldblocks.typing import typed


class GaussianDecoder(nn.Module):
    """The decoder of a VAE: from a latent vector to an image, the mirror of `GaussianEncoder`.

    A linear map to a feature map `side side (mults[-1] * depth)`, norm and activation, then the
    stages of `ImageDecoder`.

    Args:
        latent: width of the latent vector.
        channels, size: channels of the image, and its side or (height, width).
        depth, mults, strided, outer: as for `ImageDecoder`.
        output: the output class, which determines the reconstruction error: `SigmoidImageMSE` (L2)
            or `SigmoidImageL1`.

    Source: Kingma & Welling 2013 (arXiv:1312.6114); Ha & Schmidhuber 2018 (World Models,
    arXiv:1803.10122), there with four transposed convolutions.

    >>> import torch
    >>> decoder = GaussianDecoder(latent=32, channels=3, size=64, depth=4)
    >>> decoder(torch.zeros(5, 32)).mean.shape
    torch.Size([5, 64, 64, 3])
    """

    def __init__(
        self,
        *,
        latent: int,
        channels: int,
        size: Size,
        depth: int,
        mults: Sequence[int] | None = None,
        strided: bool = False,
        outer: bool = False,
        output: type[SigmoidImageMSE] = SigmoidImageMSE,
    ) -> None:
        super().__init__()
        mults = image_stages(size, outer=outer) if mults is None else mults
        self.sides = image_sides(size, mults, outer=outer)
        widths = [depth * mult for mult in mults]
        self.channels, self.size, self.output = channels, both_sides(size), output
        self.first = Linear(latent, prod(self.sides) * widths[-1])
        self.norm = ChannelNorm(widths[-1])
        self.convs, self.norms, self.out = stages(widths, channels, strided, outer)

    @typed
    def forward(self, latent: Float[Tensor, "*batch embed"]) -> SigmoidImageMSE:
        """Decode to an output whose `mean` is `*batch height width channel` in [0, 1]."""
        pattern = "... (height width channel) -> (...) channel height width"
        height, width = self.sides
        x = rearrange(self.first(latent), pattern, height=height, width=width)
        logit = draw(self.norm(x), self.convs, self.norms, self.out, self.size)
        shape = *latent.shape[:-1], *logit.shape[1:]
        return self.output(logit.reshape(shape))
