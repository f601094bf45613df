"""Decoders: from a latent state or vector to observations."""

from worldblocks.decoders.gaussian import GaussianDecoder
from worldblocks.decoders.grids import GridDecoder
from worldblocks.decoders.images import ImageDecoder
from worldblocks.decoders.observations import (
    Decoded,
    MultiDecoder,
    Parted,
    VectorDecoder,
    dreamer_decoder,
    target,
)

__all__ = [
    "Decoded",
    "GaussianDecoder",
    "GridDecoder",
    "ImageDecoder",
    "MultiDecoder",
    "Parted",
    "VectorDecoder",
    "dreamer_decoder",
    "target",
]
