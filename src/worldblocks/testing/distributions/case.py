"""A distribution of raw parameters under test."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worldblocks.testing.promise import NotApplicable, Promises
from worldblocks.testing.promise.compare import (
    seeded,
)

promise = Promises()
BATCH, TIME = 3, 4


class Case:
    """A distribution of raw parameters."""

    def __init__(
        self,
        make: Callable[[Tensor], Any],
        size: int,
        target: Callable[[Any], Tensor] | None,
        pathwise: bool,
    ) -> None:
        self.make, self.size, self.pathwise = make, size, pathwise
        self._target = target

    def raw(self, seed: int = 0, *batch: int) -> Tensor:
        """Raw parameters."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*(batch or (BATCH, TIME)), self.size, generator=generator)

    def target(self, output: Any) -> Tensor:
        """Something that the output may be asked about."""
        with seeded(), torch.no_grad():
            return (self._target(output) if self._target else output.sample()).detach()

    def sampled(self) -> None:
        """Raise if this output draws nothing."""
        if not hasattr(type(self.make(self.raw())), "sample"):
            raise NotApplicable("this output is a regression: it has no sample()")

    def has(self, name: str) -> None:
        """Raise unless this output is a distribution that knows it."""
        self.sampled()
        if not hasattr(type(self.make(self.raw())), name):
            raise NotApplicable(f"this distribution has no {name}")

    def regressed(self) -> None:
        """Raise unless there is a target that fits a regression best."""
        if hasattr(type(self.make(self.raw())), "sample"):
            raise NotApplicable("this output is a distribution: it has sample()")
