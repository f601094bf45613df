"""The sub-pixel layout: each `side` by `side` cell of an image as the channels of one pixel."""

import torch
from jaxtyping import Shaped
from torch import Tensor


def to_cells(
    image: Shaped[Tensor, "*batch cell*height cell*width channel"], side: int
) -> Shaped[Tensor, "*batch height width cell*cell*channel"]:
    """`rearrange(image, "... (h row) (w column) c -> ... h w (row column c)")`.

    Stacking whole rows of a cell takes a third of the time of a transposed copy.
    """
    *batch, h, w, c = image.shape
    rows = image.reshape(*batch, h // side, side, w // side, side * c)
    return torch.stack(rows.unbind(-3), -2).flatten(-2)


def from_cells(
    cells: Shaped[Tensor, "*batch height width cell*cell*channel"], side: int
) -> Shaped[Tensor, "*batch cell*height cell*width channel"]:
    """The inverse of `to_cells`."""
    *batch, h, w, c = cells.shape
    rows = cells.reshape(*batch, h, w, side, c // side)
    return torch.stack(rows.unbind(-2), -3).reshape(*batch, side * h, side * w, c // side**2)
