"""A distribution under test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldblocks.testing.promise import NotApplicable, Promises
from worldblocks.testing.promise.compare import seeded

promise = Promises()
BATCH, TIME = 3, 4


class Case(NamedTuple):
    """A distribution and its raw parameters."""

    make: Callable[[Tensor], Any]
    size: int
    prediction: Callable[[Any], Tensor] | None
    pathwise: bool

    def raw(self, seed: int = 0, *batch: int) -> Tensor:
        """Random raw parameters `*batch size`."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*(batch or (BATCH, TIME)), self.size, generator=generator)

    def target(self, output: Any) -> Tensor:
        """A target of the output: its prediction or a sample."""
        with seeded(), torch.no_grad():
            return (self.prediction(output) if self.prediction else output.sample()).detach()

    def sampled(self) -> None:
        """Skip the promise for outputs that have no samples."""
        if not hasattr(type(self.make(self.raw())), "sample"):
            raise NotApplicable("this output is a regression: it has no sample()")

    def has(self, name: str) -> None:
        """Skip the promise for distributions that lack a method."""
        self.sampled()
        if not hasattr(type(self.make(self.raw())), name):
            raise NotApplicable(f"this distribution has no {name}")
