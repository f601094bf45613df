"""Predictions of named features of an environment."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks._wrong_call import described, did_you_mean
from worldblocks.distributions.discrete import Bernoulli
from worldblocks.distributions.regression import MSE

Ranges = Mapping[str, tuple[float, float, bool]]


class Features:
    """Predictions of named features of an environment, numbers and bits.

    Args:
        numbers: predictions of the numbers, scaled to -1 … 1 within their range, `*batch number`.
        bits: logits of the bits, `*batch bit`.
        ranges: for each feature its lowest and highest usual value and whether it is a bit, as in
            `wb.envs.Feature`; `numbers` and `bits` follow this order.

    >>> ranges = {"speed": (-2.0, 6.0, False), "done": (0.0, 1.0, True)}
    >>> found = Features(torch.zeros(1), torch.zeros(1), ranges)
    >>> {name: mean.item() for name, mean in found.mean.items()}
    {'speed': 2.0, 'done': 0.5}
    """

    def __init__(
        self,
        numbers: Float[Tensor, "*batch number"],
        bits: Float[Tensor, "*batch bit"],
        ranges: Ranges,
    ) -> None:
        self._numbers, self._bits = MSE(numbers, event=1), Bernoulli(bits, event=1)
        self._named, self._ranges = kinds(ranges), ranges

    @property
    def mean(self) -> dict[str, Float[Tensor, "*batch"]]:
        """The expected value of each feature; for a bit, its probability."""
        names, bits = self._named
        means = {}
        for name, scaled in zip(names, self._numbers.mean.unbind(-1), strict=True):
            low, high, _ = self._ranges[name]
            means[name] = low + (high - low) * (scaled + 1) / 2
        return means | dict(zip(bits, self._bits.mean.unbind(-1), strict=True))

    def nll(self, features: Mapping[str, Float[Tensor, "*batch"]]) -> Float[Tensor, "*batch"]:
        """Squared errors of the scaled numbers plus cross-entropies of the bits, summed."""
        names, bits = self._named
        if not isinstance(features, Mapping):
            raise TypeError(
                f"Features takes a target for each of {names + bits} by name, got "
                f"{described(features)}; give a dict"
            )
        if missing := sorted({*names, *bits} - set(features)):
            extra = sorted(set(features) - {*names, *bits})
            near = did_you_mean(extra[0], missing) if extra else ""
            raise KeyError(
                f"Features takes a target for each of {names + bits}, got {sorted(features)}: "
                f"missing {missing}{near}"
            )
        loss = torch.zeros_like(next(iter(features.values())).float())
        if names:
            scaled = []
            for name in names:
                low, high, _ = self._ranges[name]
                scaled.append(2 * (features[name].float() - low) / (high - low) - 1)
            loss = loss + self._numbers.nll(torch.stack(scaled, -1))
        if bits:
            loss = loss + self._bits.nll(torch.stack([features[name].float() for name in bits], -1))
        return loss


def kinds(ranges: Ranges) -> tuple[list[str], list[str]]:
    """The names of the numbers and of the bits."""
    bits = [name for name, (_, _, bit) in ranges.items() if bit]
    return [name for name in ranges if name not in bits], bits
