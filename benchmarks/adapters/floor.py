"""What the machine can do, what an update asks of it, and what it takes."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import worldblocks as wb
from benchmarks.adapters.operations import arithmetic, profile, traffic
from benchmarks.adapters.ours import facts, trained
from benchmarks.adapters.plain import plain_layers
from benchmarks.adapters.torch_tools import flops, prepare
from benchmarks.adapters.update_parts import Functions, parts
from benchmarks.adapters.updates import Update, assemble
from benchmarks.timing import Timed
from benchmarks.work import Work

# Sides of square matrices; images, channels, side and kernel of convolutions; bytes of a copy.
MATRICES = {"cpu": (512, 1024), "cuda": (4096, 8192)}
CONVOLUTIONS = {
    "cpu": ((32, 32, 32, 3), (64, 64, 16, 3), (16, 128, 16, 3), (32, 16, 32, 5)),
    "cuda": ((512, 128, 32, 3), (1024, 256, 16, 3), (512, 256, 16, 5)),
}
COPY = {"cpu": 2**26, "cuda": 2**30}


def floor(work: Work, device: str = "cpu") -> Timed:
    """Ceilings, the update and its parts as functions; what was counted and profiled as values."""
    prepare(work.threads)
    one = assemble(work, device=device, bf16=device == "cuda")
    one.step()
    functions, values = ceilings(device, torch.bfloat16 if one.cfg.bf16 else torch.float32)
    with plain_layers():
        values["architecture"] = float(flops(one.step))
    values |= {**arithmetic(one), **traffic(one), **profile(one)}
    values["parameter bytes"] = 4.0 * trained(one.agent)
    functions |= {"update": update(one, device), **parts(one)}
    if device == "cuda":
        functions = {name: waited(function) for name, function in functions.items()}
    known = {"parameters": trained(one.agent), "warm_calls": 5 if device == "cuda" else 1}
    return Timed(functions=functions, values=values, note=machine(device), **known, **facts())


def ceilings(device: str, dtype: torch.dtype) -> tuple[Functions, dict[str, float]]:
    """Simple functions, and how much each of them does: FLOPs, bytes or operations."""
    functions: Functions = {}
    amounts: dict[str, float] = {}
    for n in MATRICES[device]:
        a, b = torch.randn(2, n, n, device=device, dtype=dtype)
        functions[f"matmul {n}"] = functools.partial(torch.mm, a, b, out=torch.empty_like(a))
        amounts[f"matmul {n}"] = 2.0 * n**3
    for images, channels, side, kernel in CONVOLUTIONS[device]:
        name = f"convolution {images} × {side} × {side} × {channels}, {kernel} × {kernel}"
        functions[name] = convolution(images, channels, side, kernel, device=device, dtype=dtype)
        amounts[name] = 2.0 * images * side**2 * channels**2 * kernel**2
    x = torch.ones(COPY[device] // 4, device=device)  # zeros would be one page of memory
    functions["copy"] = functools.partial(torch.empty_like(x).copy_, x)
    amounts["copy"] = 2.0 * COPY[device]
    functions["operation"] = functools.partial(torch.add, x[:1], x[:1])
    amounts["operation"] = 1.0
    return functions, {f"amount {name}": amount for name, amount in amounts.items()}


def convolution(
    images: int, channels: int, side: int, kernel: int, **kind: Any
) -> Callable[[], Any]:
    """As many channels out as in, channels last."""
    x = torch.randn(images, channels, side, side, **kind)
    weight = torch.randn(channels, channels, kernel, kernel, **kind)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    function = functools.partial(F.conv2d, x, weight, padding=kernel // 2)
    return torch.no_grad()(function)


def update(one: Update, device: str) -> Callable[[], Any]:
    """The whole; on CUDA as one graph."""
    if device != "cuda":
        return one.step
    step = functools.partial(one.recipe.update, one.agent, one.optimizer, cfg=one.cfg)
    return functools.partial(wb.run.Captured(step), one.rows)


def waited(function: Callable[[], Any]) -> Callable[[], Any]:
    """Until the GPU is done: wall time is then its time."""

    def whole() -> None:
        function()
        torch.cuda.synchronize()

    return whole


def machine(device: str) -> str:
    """The GPU, where it is one."""
    return torch.cuda.get_device_name() if device == "cuda" else ""
