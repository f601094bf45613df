"""Which of several reward specs is right, learned from the environment's own success."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Evidence(Protocol):
    """How likely outcomes are under a spec that is right, and under one that is wrong."""

    def log_odds(self, outcomes: Sequence[float], weights: Sequence[float]) -> float:
        """ln P(outcomes | right) - ln P(outcomes | wrong)."""
        ...


@dataclass(frozen=True)
class Successes:
    """Outcomes 0 or 1; each spec has a rate of its own, from one Beta if right, another if wrong.

    ln B(a + s, b + n - s) / B(a, b) for `right` = (a, b), minus the same for `wrong`: s successes
    in n episodes. The default says nothing of a right spec, which an untrained agent fails too,
    and that a wrong one succeeds by chance about once in twenty.
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
        return _log_beta_ratio(self.right, won, lost) - _log_beta_ratio(self.wrong, won, lost)


@dataclass(frozen=True)
class Returns:
    """Returns of the task; each spec has a mean of its own, from one normal if right, or another.

    A mean is drawn from N(right, spread²) or N(wrong, spread²), a return from N(mean, noise²).
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
        """ln P(outcomes | right) - ln P(outcomes | wrong): by their mean, which is enough."""
        count = sum(weights)
        if not count:
            return 0.0
        mean = sum(w * x for w, x in zip(weights, outcomes, strict=True)) / count
        variance = self.spread**2 + self.noise**2 / count
        return ((mean - self.wrong) ** 2 - (mean - self.right) ** 2) / (2 * variance)


class SpecPosterior:
    """Probability of each candidate spec to be the right one, and Thompson sampling from it.

        P(k | outcomes) ∝ prior[k] · P(outcomes of k | right) / P(outcomes of k | wrong)

    A language model's ranking is the prior; the outcomes are those of the *environment's own* task,
    in real episodes played for a spec. Without a success signal there is nothing to update on: the
    model's choice then stands unverified.

    Args:
        prior: a probability for each candidate (`Ranking.prior`), normalised here.
        evidence: `Successes` or `Returns`.
        keep: weight of an outcome at each later one of the same spec: below 1 old episodes, of a
            policy that had learned less, are forgotten.
        floor: share of the prior that is spread evenly, so that no candidate is excluded.
        seed: of the draws.

    Raises:
        ValueError: a probability is not one, or a number is out of range.

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
            raise ValueError(f"a prior is one probability or more, none below 0, got {prior}")
        if not (0 < keep <= 1 and 0 <= floor <= 1):
            raise ValueError(f"keep is above 0, floor 0 or more, both up to 1, got {keep}, {floor}")
        self.prior = [(1 - floor) * p / total + floor / len(prior) for p in prior]
        self.evidence, self.keep = evidence, keep
        self.outcomes: list[list[float]] = [[] for _ in prior]
        self._random = np.random.default_rng(seed)

    @property
    def probabilities(self) -> list[float]:
        """Of each candidate to be the right one; they sum to 1."""
        logs = np.log(np.maximum(self.prior, 1e-300))
        for k, outcomes in enumerate(self.outcomes):
            ages = range(len(outcomes) - 1, -1, -1)
            logs[k] += self.evidence.log_odds(outcomes, [self.keep**age for age in ages])
        shares = np.exp(logs - logs.max())
        return (shares / shares.sum()).tolist()

    @property
    def best(self) -> int:
        """The likeliest candidate; the first of equal ones."""
        return int(np.argmax(self.probabilities))

    def choose(self) -> int:
        """A candidate for the next episode, drawn by its probability (Thompson sampling)."""
        return int(self._random.choice(len(self.prior), p=self.probabilities))

    def update(self, candidate: int, outcome: float) -> None:
        """Take in the outcome of an episode that was played for a candidate.

        Raises:
            ValueError: there is no such candidate, or the outcome cannot be one.
        """
        if not 0 <= candidate < len(self.prior):
            raise ValueError(f"there are candidates 0 to {len(self.prior) - 1}, got {candidate}")
        if not math.isfinite(outcome):
            raise ValueError(f"an outcome is finite, got {outcome}")
        self.evidence.log_odds([outcome], [1.0])  # refuses what it cannot weigh
        self.outcomes[candidate].append(float(outcome))

    def state_dict(self) -> dict[str, Any]:
        """All that has been learned and drawn, as JSON values."""
        return {"outcomes": self.outcomes, "random": self._random.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            ValueError: it is of another number of candidates.
        """
        if len(state["outcomes"]) != len(self.prior):
            raise ValueError(
                f"a posterior over {len(self.prior)} candidates cannot go on from one over "
                f"{len(state['outcomes'])}"
            )
        self.outcomes = [list(map(float, part)) for part in state["outcomes"]]
        self._random.bit_generator.state = dict(state["random"])


def _log_beta_ratio(beta: tuple[float, float], won: float, lost: float) -> float:
    a, b = beta
    return _log_beta(a + won, b + lost) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
