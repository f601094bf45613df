"""Group e, the small parts: layers and their initialisers."""

from collections.abc import Iterator
from math import prod, sqrt

import torch
from torch import Tensor, nn

from parity.arrays import Arrays
from parity.record import Check, Record
from parity.sizes import count
from worldblocks.interop import load_jax
from worldblocks.layers import (
    MLP,
    BlockLinear,
    Conv2d,
    ConvTranspose2d,
    Linear,
    RMSNorm,
)


def checks(file: Arrays) -> Iterator[Check]:
    """One row for all layers: the forward pass."""

    def run(record: Record) -> None:
        for case in file.parts():
            arrays = file.at(case)
            x, out = arrays.tensor("x"), arrays.tensor("out")
            block, scope = _layer(arrays, x, out)
            load_jax(block, arrays.at("params"), scope=scope)
            image = isinstance(block, Conv2d)
            ours = block(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if image else block(x)
            record.value(f"{case}.out", ours, out)

    what = "convolutions, transposed convolution, block-linear, RMSNorm, MLP"
    yield Check("e", file.name, what, run)


def _layer(arrays: Arrays, x: Tensor, out: Tensor) -> tuple[nn.Module, str]:
    """The layer whose parameters these are, and their scope."""
    params = arrays.at("params")
    scope = next(iter(params)).split("/")[0]
    wide, layers = x.shape[-1], count(params, f"{scope}/linear{{}}/")
    if layers:
        return MLP(wide, units=out.shape[-1], layers=layers), scope
    if f"{scope}/scale" in params:
        return RMSNorm(wide), scope
    shape = params[f"{scope}/kernel"].shape
    if len(shape) == 4:
        here, there = x.shape[1], out.shape[1]
        if there > here:
            return ConvTranspose2d(wide, shape[3], shape[0], stride=there // here), scope
        return Conv2d(wide, shape[3], shape[0], stride=-(-here // there)), scope
    if len(shape) == 3:
        return BlockLinear(wide, out.shape[-1], blocks=shape[0]), scope
    return Linear(wide, out.shape[-1]), scope


def init_checks(file: Arrays) -> Iterator[Check]:
    """Statistics of fresh kernels."""
    what = "initialisers: deviation and largest weight of fresh kernels"
    yield Check("e", file.name, what, lambda r: _init(r, file))


def _init(record: Record, file: Arrays) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for case in file.parts():
            arrays = file.at(case)
            kernel, size = _fresh(arrays, case), prod(arrays["shape"].tolist())
            # Of a kernel this small the reference's own deviation is known to 4 standard errors,
            # and its largest weight lies this far below the bound once in 10,000 draws.
            deviation, largest = max(0.01, 2.4 / sqrt(size)), max(0.01, 41 / size)
            record.value(f"{case}.std", kernel.std(), arrays["std"], deviation)
            record.value(f"{case}.absmax", kernel.abs().max(), arrays["absmax"], largest)


def _fresh(arrays: Arrays, case: str) -> Tensor:
    """A million weights or more of the layer of this shape, as its constructor leaves them."""
    shape = arrays["shape"].tolist()
    digits = case.partition("outscale")[2]
    outscale = float(f"{digits[0]}.{digits[1:]}") if digits else 1.0
    kernels = []
    for _ in range(-(-(2**20) // prod(shape))):
        if len(shape) == 4:
            layer: nn.Module = Conv2d(shape[2], shape[3], shape[0], outscale=outscale)
        elif len(shape) == 3:
            wide = (shape[0] * shape[1], shape[0] * shape[2])
            layer = BlockLinear(*wide, blocks=shape[0], outscale=outscale)
        else:
            layer = Linear(*shape, outscale=outscale)
        kernels.append(layer.get_parameter("weight").detach().flatten())
    return torch.cat(kernels)
