"""Do equal columns stay equal? Mirrored bins of ±4.85e8 need it to the last bit.

On a CPU the bias gradient of a linear layer sums some columns in another order than the rest.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import worldblocks as wb
from benchmarks.gpu.agents import finite

COLUMNS = (240, 254, 255, 256, 41)
ROWS = (16, 1024, 30_720)  # of one step, of a window, of an imagination
DRAWS = 20
FEATURES = 64
FAR = 2.0  # targets are in [0, 1]: no bin beyond this is ever one


def columns(device: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Draws in which equal columns of a gradient give unequal ones of the bias or of the kernel."""
    for rows in ROWS[:2] if quick else ROWS:
        for dtype in (torch.float32, torch.bfloat16):
            found = {str(n): unequal(n, rows, device, dtype, quick) for n in COLUMNS}
            yield {f"{rows} rows, {str(dtype)[6:]}": found}
    yield {"two-hot head": head(device, 20 if quick else 500)}


def unequal(
    count: int, rows: int, device: str, dtype: torch.dtype, quick: bool
) -> dict[str, int | list[int]]:
    """How many draws, for bias and kernel, and the first columns that differ."""
    torch.manual_seed(0)
    layer = nn.Linear(FEATURES, count, device=device)
    found: dict[str, Any] = {"draws": 4 if quick else DRAWS, "bias": 0, "kernel": 0, "columns": []}
    for _ in range(found["draws"]):
        x = torch.randn(rows, FEATURES, device=device)
        column = torch.rand(rows, 1, device=device) * 1e-3
        layer.zero_grad()
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            out = layer(x)
        out.backward(column.expand(-1, count).contiguous().to(out.dtype))
        assert layer.bias.grad is not None
        assert layer.weight.grad is not None
        odd = (layer.bias.grad != layer.bias.grad[0]).nonzero().flatten()
        found["bias"] += int(len(odd) > 0)
        found["kernel"] += int((layer.weight.grad != layer.weight.grad[0]).any())
        found["columns"] = found["columns"] or odd[:8].tolist()
    return found


def head(device: str, updates: int) -> dict[str, Any]:
    """Two heads after some updates: mirrored far bins that differ, and a mean that should be 0."""
    torch.manual_seed(0)
    kept, _, _ = trained(device, updates, symmetric=False)
    far = kept.bins.abs() > FAR
    kernel, bias = kept.out.weight.detach(), kept.out.bias.detach()
    odd = (kernel != kernel.flip(0)).any(1) | (bias != bias.flip(0))
    _, means, losses = trained(device, updates, symmetric=True)
    return {
        "updates": updates,
        "far bins": int(far.sum()),
        "of them unlike their mirror": int((odd & far).sum()),
        "largest |mean| on symmetric data": finite(max(means)),
        "last loss": finite(losses[-1]),
    }


def trained(
    device: str, updates: int, *, symmetric: bool
) -> tuple[wb.heads.TwoHotHead, list[float], list[float]]:
    """A head, and after each update the largest |mean| of its predictions and the loss."""
    one = wb.heads.TwoHotHead(FEATURES, units=FEATURES, layers=1).to(device)
    optimizer = wb.optim.dreamer_optimizer(one.parameters(), lr=1e-3, agc=0.3, warmup=1)
    means, losses = [], []
    for _ in range(updates):
        x = torch.randn(512, FEATURES, device=device)
        target = torch.rand(512, device=device)
        x = torch.cat([x, x])
        target = torch.cat([target, -target if symmetric else target])
        optimizer.zero_grad()
        loss = one(x).nll(target).mean()
        loss.backward()
        optimizer.step()
        means.append(one(x).mean.detach().abs().max())
        losses.append(loss.detach())
    return one, torch.stack(means).tolist(), torch.stack(losses).tolist()
