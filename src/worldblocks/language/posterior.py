"""A posterior over candidate reward specs, from the environment's own outcomes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Evidence(Protocol):
    """Likelihood ratio of outcomes: under the right spec against under a wrong one."""

    def log_odds(self, outcomes: Sequence[float], weights: Sequence[float]) -> float:
        """ln P(outcomes | right) - ln P(outcomes | wrong)."""
        ...


@dataclass(frozen=True)
class Successes:
    """Successes, 0 to 1: a Beta prior over the success rate, one if right, another if wrong.

        log odds = ln B(a + s, b + n - s) / B(a, b) for `right` = (a, b), minus that for `wrong`

    with s successes in n episodes. By default the rate of a right spec is uniform, since an
    untrained agent fails at it too, and that of a wrong one is 1/20 on average.
    """

    right: tuple[float, float] = (1.0, 1.0)
    wrong: tuple[float, float] = (1.0, 19.0)

    def __post_init__(self) -> None:
        if not min(*self.right, *self.wrong) > 0:
            raise ValueError(f"both numbers of a Beta are above 0, got {self.right}, {self.wrong}")

    def log_odds(self, outcomes: Sequence[float], weights: Sequence[float]) -> float:
        """ln P(outcomes | right) - ln P(outcomes | wrong)."""
        if wrong := [x for x in outcomes if not 0 <= x <= 1]:
            raise ValueError(f"a success is 0 to 1, got {wrong[0]}; Returns takes others")
        won = sum(w * x for w, x in zip(weights, outcomes, strict=True))
        lost = sum(weights) - won
        return _log_evidence(self.right, won, lost) - _log_evidence(self.wrong, won, lost)


@dataclass(frozen=True)
class Returns:
    """Returns of the task: each spec's mean is normal, about one value if right, another if wrong.

    mean ~ N(right, spread²) or N(wrong, spread²),    return ~ N(mean, noise²)
    """

    right: float
    wrong: float
    spread: float
    noise: float

    def __post_init__(self) -> None:
        if not (self.spread > 0 and self.noise > 0 and self.right > self.wrong):
            raise ValueError(
                f"Returns needs a spread and a noise above 0 and right above wrong, got {self}"
            )

    def log_odds(self, outcomes: Sequence[float], weights: Sequence[float]) -> float:
        """ln P(outcomes | right) - ln P(outcomes | wrong), from their mean (sufficient)."""
        count = sum(weights)
        if not count:
            return 0.0
        mean = sum(w * x for w, x in zip(weights, outcomes, strict=True)) / count
        variance = self.spread**2 + self.noise**2 / count
        return ((mean - self.wrong) ** 2 - (mean - self.right) ** 2) / (2 * variance)


class SpecPosterior:
    """The probability that each candidate spec is right, and Thompson sampling from it.

        P(k | outcomes) ∝ prior[k] · P(outcomes of k | right) / P(outcomes of k | wrong)

    The prior is the ranking of a language model. An outcome is that of the *environment's own*
    task in a real episode played for one spec. Without a success signal there is no update, and
    the model's choice stays unverified.

    Args:
        prior: a probability for each candidate (`Ranking.prior`); normalised here.
        evidence: `Successes` or `Returns`.
        keep: factor on the weight of an outcome with each later one of the same spec; below 1 it
            forgets the episodes of an earlier policy.
        floor: share of the prior that is spread evenly, so that no candidate is excluded.
        seed: for `choose`.

    Raises:
        ValueError: an argument is out of range.

    >>> belief = SpecPosterior([0.7, 0.3], floor=0.0)
    >>> belief.update(0, 0.0)
    >>> belief.update(1, 1.0)
    >>> [round(share, 3) for share in belief.probabilities]
    [0.109, 0.891]
    """

    def __init__(
        self,
        prior: Sequence[float],
        evidence: Evidence = Successes(),
        *,
        keep: float = 1.0,
        floor: float = 0.05,
        seed: int = 0,
    ) -> None:
        total = sum(prior)
        if not prior or not all(p >= 0 for p in prior) or not 0 < total < math.inf:
            raise ValueError(f"a prior has one or more probabilities, none below 0, got {prior}")
        if not (0 < keep <= 1 and 0 <= floor <= 1):
            raise ValueError(f"keep is above 0, floor 0 or more, both up to 1, got {keep}, {floor}")
        self.prior = [(1 - floor) * p / total + floor / len(prior) for p in prior]
        self.evidence, self.keep = evidence, keep
        self.outcomes: list[list[float]] = [[] for _ in prior]
        self._random = np.random.default_rng(seed)

    @property
    def probabilities(self) -> list[float]:
        """The probability that each candidate is right; they sum to 1."""
        logs = np.log(np.maximum(self.prior, 1e-300))
        for k, outcomes in enumerate(self.outcomes):
            ages = range(len(outcomes) - 1, -1, -1)
            logs[k] += self.evidence.log_odds(outcomes, [self.keep**age for age in ages])
        shares = np.exp(logs - logs.max())
        return (shares / shares.sum()).tolist()

    @property
    def best(self) -> int:
        """The most probable candidate; the first of equal ones."""
        return int(np.argmax(self.probabilities))

    def choose(self) -> int:
        """A candidate for the next episode, drawn from the posterior (Thompson sampling)."""
        return int(self._random.choice(len(self.prior), p=self.probabilities))

    def update(self, candidate: int, outcome: float) -> None:
        """Add the outcome of an episode played for a candidate.

        Raises:
            ValueError: there is no such candidate, or the outcome is out of range.
        """
        if not 0 <= candidate < len(self.prior):
            raise ValueError(f"there are candidates 0 to {len(self.prior) - 1}, got {candidate}")
        if not math.isfinite(outcome):
            raise ValueError(f"an outcome is finite, got {outcome}")
        self.evidence.log_odds([outcome], [1.0])  # raises if out of range
        self.outcomes[candidate].append(float(outcome))

    def state_dict(self) -> dict[str, Any]:
        """The outcomes and the random state, as JSON values."""
        return {"outcomes": self.outcomes, "random": self._random.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`.

        Raises:
            ValueError: it has another number of candidates.
        """
        if len(state["outcomes"]) != len(self.prior):
            raise ValueError(
                f"a posterior over {len(self.prior)} candidates cannot load one over "
                f"{len(state['outcomes'])}"
            )
        self.outcomes = [list(map(float, part)) for part in state["outcomes"]]
        self._random.bit_generator.state = dict(state["random"])


def _log_evidence(prior: tuple[float, float], won: float, lost: float) -> float:
    a, b = prior
    return _log_beta(a + won, b + lost) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
