"""Layers of DreamerV3: linear maps, convolutions, RMSNorm, MLP.

A *layer* is always a linear map with bias, then RMSNorm, then SiLU. Every kernel is initialised
from a truncated normal with standard deviation `outscale / sqrt(fan_in)`, every bias with 0, every
scale with 1.
"""

from worldblocks.layers.convolutions import (
    Conv2d,
    ConvTranspose2d,
    PooledConv2d,
    UpConv2d,
)
from worldblocks.layers.linear import (
    BlockLinear,
    Linear,
    MirroredLinear,
    check_width,
    init_trunc_normal,
)
from worldblocks.layers.normed import MLP, ChannelNorm, Layer, RMSNorm

__all__ = [
    "MLP",
    "BlockLinear",
    "ChannelNorm",
    "Conv2d",
    "ConvTranspose2d",
    "Layer",
    "Linear",
    "MirroredLinear",
    "PooledConv2d",
    "RMSNorm",
    "UpConv2d",
    "check_width",
    "init_trunc_normal",
]
