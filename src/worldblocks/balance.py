"""Fixed and learned loss weights: modules from losses by name to weighted losses by name.

Each module takes all losses of an update, weights those it was built for and returns the others
unchanged. Losses may be unreduced: the regularisation term of a learned weight is added to each
element, so that the *mean* contains it once. The recipe sums the losses; `weights()` is for
logging.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

Losses = Mapping[str, Float[Tensor, "..."]]


class FixedWeights(nn.Module):
    """Multiply each loss by a number.

    >>> FixedWeights({"rep": 0.1})({"rep": torch.tensor(5.0)})["rep"].item()
    0.5
    """

    factor: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.numbers = {name: float(weights[name]) for name in _listed("FixedWeights", weights)}
        factor = torch.tensor([*self.numbers.values()])
        self.register_buffer("factor", factor, persistent=False)

    def weights(self) -> dict[str, Float32[Tensor, ""]]:
        """The weight of each loss."""
        return dict(zip(self.numbers, self.factor.unbind(), strict=True))

    def forward(self, losses: Losses) -> dict[str, Float[Tensor, "..."]]:
        """The weighted losses."""
        _check_given("FixedWeights", self.numbers, losses)
        return {**losses, **{name: number * losses[name] for name, number in self.numbers.items()}}


class HarmonyWeights(nn.Module):
    """Learned weights that bring losses to one scale, each divided by a learned scale σ.

        L / σ + ln(1 + σ)        σ = exp(s) > 0, one for each loss; the weight is 1 / σ

    For a constant loss the best scale is σ = (L + √(L² + 4 L)) / 2. A large loss gets a small
    weight and ends near 1. The weight of a small loss stays below 1 / √L; with ln σ instead of
    ln(1 + σ) it would grow to 1 / L. The losses should not be negative, or σ shrinks to 0.

    Args:
        names: names of the losses to weight.

    Source: Ma et al. 2024 (HarmonyDream, arXiv:2310.00344), equation 5.

    >>> balance = HarmonyWeights(["obs"])
    >>> round(balance({"obs": torch.tensor(5.0)})["obs"].item(), 4)  # 5 / 1 + ln 2
    5.6931
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = _listed("HarmonyWeights", names)
        self.log_scales = _zeros(self.names)

    def weights(self) -> dict[str, Float32[Tensor, ""]]:
        """The weight 1 / σ of each loss, without gradient."""
        scales = zip(self.names, self.log_scales, strict=True)
        return {name: s.detach().float().neg().exp() for name, s in scales}

    def forward(self, losses: Losses) -> dict[str, Float[Tensor, "..."]]:
        """The weighted losses; their gradient trains the scales."""
        _check_given("HarmonyWeights", self.names, losses)
        scales = zip(self.names, (s.float() for s in self.log_scales), strict=True)
        return {**losses, **{k: losses[k] * s.neg().exp() + F.softplus(s) for k, s in scales}}


class UncertaintyWeights(nn.Module):
    """Learned weights from the homoscedastic uncertainty of each loss.

        squared errors        L / (2 σ²) + ln σ        weight 1 / (2 σ²), best at σ² = L
        log-likelihoods       L / σ² + ln σ            weight 1 / σ²,     best at σ² = 2 L

    σ² = exp(s), one for each loss. The weights are unbounded: as a loss goes to 0 its weight grows
    without limit, which `HarmonyWeights` avoids. The losses should not be negative.

    Args:
        squared: names of the losses that are squared errors.
        likelihood: names of the losses that are negative log-likelihoods (cross-entropies).

    Source: Kendall, Gal & Cipolla 2018 (arXiv:1705.07115), equations 7 and 10.

    >>> balance = UncertaintyWeights(squared=["obs"], likelihood=["cont"])
    >>> {name: weight.item() for name, weight in balance.weights().items()}
    {'obs': 0.5, 'cont': 1.0}
    """

    def __init__(self, *, squared: Iterable[str] = (), likelihood: Iterable[str] = ()) -> None:
        super().__init__()
        squared = _listed("UncertaintyWeights", squared, least=0)
        likelihood = _listed("UncertaintyWeights", likelihood, least=0)
        self.names = _listed("UncertaintyWeights", (*squared, *likelihood))
        self.factors = [0.5] * len(squared) + [1.0] * len(likelihood)
        self.log_variances = _zeros(self.names)

    def weights(self) -> dict[str, Float32[Tensor, ""]]:
        """The weight of each loss, without gradient."""
        return {name: (factor * (-s.detach()).exp()) for name, factor, s in self._terms()}

    def forward(self, losses: Losses) -> dict[str, Float[Tensor, "..."]]:
        """The weighted losses; their gradient trains the variances."""
        _check_given("UncertaintyWeights", self.names, losses)
        weighted = {k: losses[k] * (f * (-s).exp()) + 0.5 * s for k, f, s in self._terms()}
        return {**losses, **weighted}

    def _terms(self) -> Iterator[tuple[str, float, Tensor]]:
        variances = (s.float() for s in self.log_variances)
        return zip(self.names, self.factors, variances, strict=True)


def _zeros(names: tuple[str, ...]) -> nn.ParameterList:
    """One parameter per name, so that clipping by tensor norm treats each separately."""
    return nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in names)


def _listed(what: str, names: Iterable[str], least: int = 1) -> tuple[str, ...]:
    """The names as a tuple. Raises for a single string, too few names, or duplicates."""
    listed = tuple(names)
    if isinstance(names, str) or len(listed) < least or len(set(listed)) < len(listed):
        raise ValueError(
            f"{what} takes one or more distinct names of losses, such as ['obs', 'reward']; "
            f"got {names if isinstance(names, str) else list(listed)!r}"
        )
    return listed


def _check_given(what: str, names: Iterable[str], losses: Losses) -> None:
    if missing := [name for name in names if name not in losses]:
        raise KeyError(f"{what} weights {list(names)}, got the losses {list(losses)}: no {missing}")
