"""The encoder of a board or a map whose cells hold classes."""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldblocks._wrong_call import as_tensor, described
from worldblocks.encoders.images import ImageEncoder, image_stages
from worldblocks.spaces import Grid
from worldblocks.typing import placed


class GridEncoder(nn.Module):
    """The stages of `ImageEncoder` over the one-hots of a grid.

    Each of the `channels * classes` pairs is one plane of zeros and ones. A value that is not a
    class is all zeros. Sides may have 1 to 512 cells.

    Args:
        space: the grid.
        depth, mults, strided, outer: as for `ImageEncoder`.

    >>> import torch
    >>> board = Grid(8, 8, channels=12, classes=2)
    >>> GridEncoder(board, depth=4)(torch.zeros(5, 8, 8, 12, dtype=torch.uint8)).shape
    torch.Size([5, 128])
    """

    def __init__(
        self,
        space: Grid,
        *,
        depth: int,
        mults: Sequence[int] | None = None,
        strided: bool = False,
        outer: bool = False,
    ) -> None:
        super().__init__()
        size = space.height, space.width
        self.space = space
        self.planes = ImageEncoder(
            channels=space.channels * space.classes,
            size=size,
            depth=depth,
            mults=image_stages(size, outer=outer, least=1) if mults is None else mults,
            strided=strided,
            outer=outer,
        )
        self.embed_dim = self.planes.embed_dim

    @placed
    def forward(
        self, grid: UInt8[Tensor, "*batch height width channel"]
    ) -> Float[Tensor, "*batch embed"]:
        """Encode uint8 classes."""
        if not isinstance(grid, Tensor):
            raise TypeError(
                f"grid should be a uint8 tensor, got {described(grid)}; {as_tensor(grid, 'grid')}"
            )
        space, batch = self.space, grid.shape[:-3]
        if grid.is_floating_point() or grid.shape[-3:] != space.shape:
            raise ValueError(
                f"GridEncoder takes classes of shape {('*batch', *space.shape)} for {space}, got "
                f"{grid.dtype} of shape {tuple(grid.shape)}"
            )
        planes = space.one_hot(grid).float().reshape(-1, *space.shape[:2], self.planes.channels)
        return self.planes.features(planes.permute(0, 3, 1, 2)).reshape(*batch, self.embed_dim)
