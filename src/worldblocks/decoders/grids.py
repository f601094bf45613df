"""The decoder of a board or a map whose cells hold classes."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.decoders.images import ImageDecoder, common_blocks
from worldblocks.distributions import OneHot
from worldblocks.encoders import image_stages
from worldblocks.spaces import Grid
from worldblocks.typing import typed


class GridDecoder(nn.Module):
    """The mirror of `GridEncoder`: from a latent state to a categorical for each cell and channel.

    The stages of `ImageDecoder`, with one number for each channel and class: the logits of
    `OneHot`. The loss is the cross-entropy, summed over cells and channels.

    Args:
        space: the grid.
        deter, stoch: widths of the two parts of the state (`stoch` flattened).
        depth, units, blocks, mults, strided, outer: as for `ImageDecoder`.

    >>> import torch
    >>> decoder = GridDecoder(Grid(8, 8, 12, classes=2), deter=32, stoch=20, depth=4, units=16)
    >>> decoder(torch.zeros(5, 32), torch.zeros(5, 20)).mean.shape
    torch.Size([5, 8, 8, 12, 2])
    """

    def __init__(
        self,
        space: Grid,
        *,
        deter: int,
        stoch: int,
        depth: int,
        units: int,
        blocks: int = 8,
        mults: Sequence[int] | None = None,
        strided: bool = False,
        outer: bool = False,
    ) -> None:
        super().__init__()
        size = space.height, space.width
        self.space = space
        if mults is None:
            mults = image_stages(size, outer=outer, least=1)
            blocks = common_blocks(depth, mults, blocks)
        self.planes = ImageDecoder(
            deter=deter,
            stoch=stoch,
            channels=space.channels * space.classes,
            size=size,
            depth=depth,
            units=units,
            blocks=blocks,
            mults=mults,
            strided=strided,
            outer=outer,
        )

    @typed
    def forward(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> OneHot:
        """Decode to an output whose `mean` is `*batch height width channel classes`."""
        logit = self.planes.logit(deter, stoch)
        classes = self.space.channels, self.space.classes
        return OneHot(logit.reshape((*logit.shape[:-1], *classes)), event=3)
