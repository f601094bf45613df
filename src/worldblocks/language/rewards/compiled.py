"""Reward specs as batched torch functions, scaled by their values on a sample."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.language.rewards.expression import Expression, ExpressionError
from worldblocks.replay import Relabel
from worldblocks.typing import typed

LARGEST_VALUE = 1000.0  # of a term on the sample
BOUND = 10.0  # of the reward


class RewardFunction:
    """A weighted sum of expressions of features: `scale * sum(weight * term)`, clipped to ±10.

    `scale` makes the 95th percentile of the absolute sum on the sample 1, so that all specs reward
    on the same scale. `RewardSpec.compile` builds it.

    Attributes:
        names: the features it uses.
        temporal: whether it compares rows with the row before (`rise`, `delta`).
        scale: factor of the weighted sum.
    """

    def __init__(
        self, terms: Sequence[tuple[str, float]], sample: Mapping[str, Float[Tensor, "*batch"]]
    ) -> None:
        rows = {name: torch.as_tensor(value).detach().float() for name, value in sample.items()}
        self.terms = [(Expression(text, list(rows)), weight) for text, weight in terms]
        self.names = sorted(set().union(*(term.names for term, _ in self.terms)))
        self.temporal = any(term.temporal for term, _ in self.terms)
        _check_sample(rows)
        for term, _ in self.terms:
            _check_values(term, term(rows))
        self.scale = 1.0
        total = self._sum(rows, None)
        if total.min() == total.max():
            raise ExpressionError(
                f"refused {[term.text for term, _ in self.terms]}: their weighted sum is "
                f"{total.flatten()[0].item():g} everywhere on the sample; terms that cancel reward "
                f"nothing"
            )
        high = torch.quantile(total.abs().flatten()[:1_000_000], 0.95).item()
        self.scale = 1.0 / high if high > 1e-6 else 1.0

    @typed
    def __call__(
        self,
        features: Mapping[str, Float[Tensor, "*batch"]],
        is_first: Bool[Tensor, "*batch"] | None = None,
    ) -> Float[Tensor, "*batch"]:
        """The reward that arrives with every row.

        Args:
            features: tensors by name; the last axis is time if the function is `temporal`.
            is_first: first rows of episodes, where `rise` and `delta` are 0; so is row 0.
        """
        return (self.scale * self._sum(features, is_first)).clamp(-BOUND, BOUND)

    @property
    def relabel(self) -> Relabel:
        """The function in the form that `replay.relabel` takes; raises where `check` does."""
        return Relabel(tuple(self.names), self._checked, self.temporal)

    def _checked(
        self, features: Mapping[str, Tensor], is_first: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch"]:
        self.check(features)
        return self({name: features[name] for name in self.names}, is_first)

    def parts(
        self,
        features: Mapping[str, Float[Tensor, "*batch"]],
        is_first: Bool[Tensor, "*batch"] | None = None,
    ) -> dict[str, Float[Tensor, "*batch"]]:
        """The value of each term by its text, before weight and scale."""
        return {term.text: term(features, is_first) for term, _ in self.terms}

    def check(self, features: Mapping[str, Float[Tensor, "*batch"]]) -> None:
        """Check that every term is finite. Reads values, so it synchronises with the device.

        Raises:
            ValueError: a term is not finite; names it and the values of its features.
        """
        for term, _ in self.terms:
            values = term(features)
            if not values.isfinite().all():
                place = int((~values.isfinite()).flatten().nonzero()[0])
                shown = {n: features[n].flatten()[place].item() for n in sorted(term.names)}
                raise ValueError(
                    f"the reward {term.text!r} is {values.flatten()[place].item()} at {shown}; it "
                    f"was finite on the sample it was compiled with: check the features"
                )

    def _sum(
        self,
        features: Mapping[str, Float[Tensor, "*batch"]],
        is_first: Bool[Tensor, "*batch"] | None,
    ) -> Float[Tensor, "*batch"]:
        return torch.stack([w * term(features, is_first) for term, w in self.terms]).sum(0)


def _check_sample(rows: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in rows.items()}
    size = next(iter(rows.values())).numel()
    if len(set(shapes.values())) > 1 or size < 2:
        raise ExpressionError(
            f"a reward is compiled with two rows or more of every feature, in one shape, got "
            f"{dict(list(shapes.items())[:6])}"
        )
    wrong = [name for name, value in rows.items() if not value.isfinite().all()]
    if wrong:
        raise ExpressionError(f"the sample of {wrong[0]!r} has NaN or inf; it should be finite")


def _check_values(term: Expression, values: Tensor) -> None:
    """Refuse a term that is not finite, too large, or constant."""
    low, high = values.min().item(), values.max().item()
    if not values.isfinite().all():
        problem, hint = (
            "it is not finite on the sample",
            "divide by something that is never 0, and keep powers small",
        )
    elif max(abs(low), abs(high)) > LARGEST_VALUE:
        problem = f"it is {low:.3g} to {high:.3g} on the sample"
        hint = f"stay within ±{LARGEST_VALUE:g}, for example by clip"
    elif low == high:
        problem = f"it is {low:g} everywhere on the sample"
        hint = "a reward has to depend on the state"
    else:
        return
    raise ExpressionError(f"refused {term.text!r}: {problem}; {hint}")
