"""Independent distributions joined over a flat vector."""

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from worldblocks._wrong_call import described
from worldblocks.distributions.output import Output, detached


class Joint(Output):
    """The distribution of a flat action vector with independent parts.

    The flattened events of the parts are concatenated along the last axis, in the given order
    (sorted keys). Log-probabilities and entropies are summed over the parts.
    """

    def __init__(self, parts: Mapping[str, Output]) -> None:
        super().__init__(event=1)
        if not isinstance(parts, Mapping):
            raise TypeError(
                f"Joint takes distributions by key, such as {{'action': OneHot(logits)}}, got "
                f"{described(parts)}"
            )
        self.parts = dict(parts)

    def __getitem__(self, index: Any) -> Self:
        return type(self)({key: part[index] for key, part in self.parts.items()})

    def detach(self) -> Self:
        """The same distribution, detached from the graph."""
        return type(self)({key: part.detach() for key, part in self.parts.items()})

    def _join(self, values: Mapping[str, Tensor]) -> Tensor:
        axes = {key: len(part.event_shape) for key, part in self.parts.items()}
        flat = [x.flatten(-axes[key]) if axes[key] else x[..., None] for key, x in values.items()]
        return torch.cat(flat, -1)

    def split(self, x: Shaped[Tensor, "*batch action"]) -> dict[str, Shaped[Tensor, "..."]]:
        """Split flat vectors into the parts, each in its own event shape."""
        shapes = {key: part.event_shape for key, part in self.parts.items()}
        sizes = [math.prod(shape) for shape in shapes.values()]
        if not isinstance(x, Tensor):
            raise TypeError(
                f"Joint of the parts {list(shapes)} takes flat vectors, got {described(x)}; "
                f"wb.spaces.one_hot_action makes them of values by key"
            )
        if not x.ndim or x.shape[-1] != sum(sizes):
            raise ValueError(
                f"Joint of {dict(zip(shapes, sizes, strict=True))} takes vectors of {sum(sizes)} "
                f"numbers, got shape {tuple(x.shape)}"
            )
        return {
            key: piece.reshape((*x.shape[:-1], *shape))
            for (key, shape), piece in zip(shapes.items(), x.split(sizes, -1), strict=True)
        }

    @property
    def mean(self) -> Float32[Tensor, "*batch action"]:
        """The means of the parts (probabilities of a discrete part)."""
        return self._join({key: part.mean for key, part in self.parts.items()})

    @property
    def mode(self) -> Float32[Tensor, "*batch action"]:
        """The modes of the parts."""
        return self._join({key: part.mode for key, part in self.parts.items()})

    def sample(
        self, noise: Mapping[str, Float[Tensor, "..."]] | None = None
    ) -> Float32[Tensor, "*batch action"]:
        """A sample; `noise` by part as for its own `sample`. Parts without noise draw their own."""
        noise = {} if noise is None else noise
        if not isinstance(noise, Mapping):
            raise TypeError(
                f"Joint takes noise by part, a dict with some of the keys {list(self.parts)}, got "
                f"{described(noise)}"
            )
        if unknown := sorted(set(noise) - set(self.parts)):
            raise ValueError(f"Joint has the parts {list(self.parts)}, got noise for {unknown}")
        return self._join({key: part.sample(noise.get(key)) for key, part in self.parts.items()})

    def log_prob(self, x: Shaped[Tensor, "*batch action"]) -> Float32[Tensor, "*batch"]:
        """Log-probability of flat vectors."""
        values = self.split(x)
        return sum(part.log_prob(values[key]) for key, part in self.parts.items())  # type: ignore[return-value]

    def nll(self, target: Shaped[Tensor, "*batch action"]) -> Float32[Tensor, "*batch"]:
        """Negative log-probability of flat vectors."""
        return -self.log_prob(detached(target))

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Sum of the parts' entropies in nats."""
        return sum(part.entropy() for part in self.parts.values())  # type: ignore[return-value]
