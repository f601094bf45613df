"""Layers of DreamerV3: linear maps and convolutions with its initialiser, RMSNorm, MLP.

A *layer* is always linear map with bias -> RMSNorm -> SiLU. Every kernel starts as a truncated
normal of standard deviation `outscale / sqrt(fan_in)`, every bias at 0, every scale at 1.
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
    block_matmul,
    by_block,
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
    "block_matmul",
    "by_block",
    "check_width",
    "init_trunc_normal",
]
