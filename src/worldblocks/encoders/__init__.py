"""Encoders: from observations to one embedding vector."""

from worldblocks.encoders.gaussian import GaussianEncoder
from worldblocks.encoders.grids import GridEncoder
from worldblocks.encoders.images import ImageEncoder, both_sides, image_sides, image_stages
from worldblocks.encoders.observations import (
    MultiEncoder,
    dreamer_encoder,
    group_shape,
    image_groups,
    images_of,
)
from worldblocks.encoders.vectors import VectorEncoder, check_keys, vectors_of

__all__ = [
    "GaussianEncoder",
    "GridEncoder",
    "ImageEncoder",
    "MultiEncoder",
    "VectorEncoder",
    "both_sides",
    "check_keys",
    "dreamer_encoder",
    "group_shape",
    "image_groups",
    "image_sides",
    "image_stages",
    "images_of",
    "vectors_of",
]
