"""Weights of losses, fixed or trained: a dict of losses by name in, the dict of weighted ones out.

Every one of them is called with all losses of an update, weighs those it was built for and passes
the others on as they are. A loss need not be reduced: the term that keeps a trained weight in place
is added to each of its elements, so that a *mean* over them has it once. The sum over names is the
recipe's; `weights()` is for the log.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

Losses = Mapping[str, Float[Tensor, "..."]]


class FixedWeights(nn.Module):
    """Each loss times a number.

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
        """The number of each loss."""
        return dict(zip(self.numbers, self.factor.unbind(), strict=True))

    def forward(self, losses: Losses) -> dict[str, Float[Tensor, "..."]]:
        """The losses, weighted."""
        _check_given("FixedWeights", self.numbers, losses)
        return {**losses, **{name: number * losses[name] for name, number in self.numbers.items()}}


class HarmonyWeights(nn.Module):
    """Trained weights that bring losses to one size: each is divided by a scale that follows it.

        L / σ + ln(1 + σ)        σ = exp(s) > 0, one for each loss; the weight is 1 / σ

    For a constant loss the best scale is σ = (L + √(L² + 4 L)) / 2: a large loss weighs little and
    ends near 1, and the weight of a small one stays below 1 / √L, where ln σ instead of ln(1 + σ)
    would have let it grow to 1 / L. The losses should not be negative, else σ shrinks to 0.

    Args:
        names: of the losses that are weighed.

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
        """1 / σ of each loss, without gradient."""
        scales = zip(self.names, self.log_scales, strict=True)
        return {name: s.detach().float().neg().exp() for name, s in scales}

    def forward(self, losses: Losses) -> dict[str, Float[Tensor, "..."]]:
        """The losses, weighted; the scales are trained by their gradient."""
        _check_given("HarmonyWeights", self.names, losses)
        scales = zip(self.names, (s.float() for s in self.log_scales), strict=True)
        return {**losses, **{k: losses[k] * s.neg().exp() + F.softplus(s) for k, s in scales}}


class UncertaintyWeights(nn.Module):
    """Trained weights as the noise that each task is found to have, of equal variance everywhere.

        squared errors        L / (2 σ²) + ln σ        weight 1 / (2 σ²), best at σ² = L
        log-likelihoods       L / σ² + ln σ            weight 1 / σ²,     best at σ² = 2 L

    σ² = exp(s), one for each loss. The weights have no bound: a loss that goes to 0 has one that
    grows without end, which `HarmonyWeights` avoids. The losses should not be negative.

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
        """The factor of each loss, without gradient."""
        return {name: (factor * (-s.detach()).exp()) for name, factor, s in self._terms()}

    def forward(self, losses: Losses) -> dict[str, Float[Tensor, "..."]]:
        """The losses, weighted; the variances are trained by their gradient."""
        _check_given("UncertaintyWeights", self.names, losses)
        weighted = {k: losses[k] * (f * (-s).exp()) + 0.5 * s for k, f, s in self._terms()}
        return {**losses, **weighted}

    def _terms(self) -> Iterator[tuple[str, float, Tensor]]:
        variances = (s.float() for s in self.log_variances)
        return zip(self.names, self.factors, variances, strict=True)


def _zeros(names: tuple[str, ...]) -> nn.ParameterList:
    """A parameter for each, not an entry: a clip by the norm of a tensor is then each one's own."""
    return nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in names)


def _listed(what: str, names: Iterable[str], least: int = 1) -> tuple[str, ...]:
    """A string would be taken for its letters; a name twice would be weighed once."""
    listed = tuple(names)
    if isinstance(names, str) or len(listed) < least or len(set(listed)) < len(listed):
        raise ValueError(
            f"{what} takes names of losses, one or more and each once, such as ['obs', 'reward']; "
            f"got {names if isinstance(names, str) else list(listed)!r}"
        )
    return listed


def _check_given(what: str, names: Iterable[str], losses: Losses) -> None:
    if missing := [name for name in names if name not in losses]:
        raise KeyError(f"{what} weighs {list(names)}, got the losses {list(losses)}: no {missing}")
