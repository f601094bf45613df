"""Encoders: from observations to one embedding vector."""

from worldblocks.encoders.gaussian import GaussianEncoder
from worldblocks.encoders.images import ImageEncoder, image_side
from worldblocks.encoders.observations import (
    MultiEncoder,
    VectorEncoder,
    check_keys,
    dreamer_encoder,
    images_of,
    vectors_of,
)

__all__ = [
    "GaussianEncoder",
    "ImageEncoder",
    "MultiEncoder",
    "VectorEncoder",
    "check_keys",
    "dreamer_encoder",
    "image_side",
    "images_of",
    "vectors_of",
]
