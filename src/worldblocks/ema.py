"""Slow copies of modules: exponential moving averages of weights."""

import copy
from typing import Any

# pyright: reportPrivateImportUsage=false
import torch
from torch import nn


class SlowCopy(nn.Module):
    """A copy of a module whose weights follow it: `slow <- rate * source + (1 - rate) * slow`.

    The copy receives no gradient; calling the module calls the copy. Only parameters follow:
    buffers keep the values they had when copied.

    Args:
        source: the module to copy.
        rate: weight of the source in an update: 1 (a hard copy) or below 0.5.
        every: number of calls per update; the first call updates.

    Source: DreamerV3, section "Critic learning" (rate 0.02 after every optimiser step).

    >>> source = nn.Linear(1, 1, bias=False)
    >>> slow = SlowCopy(source, rate=0.25)
    >>> source.weight.data += 1
    >>> gap = source.weight - slow.copy.weight
    >>> slow.update(source)
    >>> ((source.weight - slow.copy.weight) / gap).item()
    0.75
    """

    count: torch.Tensor

    def __init__(self, source: nn.Module, rate: float = 0.02, every: int = 1) -> None:
        super().__init__()
        if not (rate == 1 or 0 < rate < 0.5):
            raise ValueError(f"SlowCopy takes a rate of 1 or between 0 and 0.5, got {rate}")
        if every < 1:
            raise ValueError(f"SlowCopy updates every 1 or more calls, got every={every}")
        self.copy = copy.deepcopy(source).requires_grad_(False)
        self.rate, self.every = rate, every
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the copy."""
        return self.copy(*args, **kwargs)

    @torch.no_grad()
    def update(self, source: nn.Module) -> None:
        """Move towards `source`, the module that was copied. Nothing is read back to the host."""
        slow: list[torch.Tensor] = list(self.copy.parameters())
        fast: list[torch.Tensor] = list(source.parameters())
        if [p.shape for p in slow] != [p.shape for p in fast]:
            raise ValueError("SlowCopy.update takes the module that was copied; the shapes differ")
        if self.every == 1:
            torch._foreach_lerp_(slow, fast, self.rate)
        else:
            counts = self.count % self.every == 0
            for copied, parameter in zip(slow, fast, strict=True):
                copied.copy_(torch.where(counts, copied.lerp(parameter, self.rate), copied))
        self.count += 1
