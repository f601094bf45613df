"""Medians, spreads and ratios of samples, and when a ratio claims something."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FLOPS_APART = 0.10  # two amounts of work that differ by more are not the same work


class Summary(NamedTuple):
    """Median and quartiles of the medians of the rounds.

    A turn lasts a fixed time, so that a quiet round has more samples than a busy one. Rounds
    therefore weigh alike, however many samples they have.

    Attributes:
        rounds: the medians.
        samples: of all rounds together.
    """

    median: float
    low: float
    high: float
    samples: int
    rounds: list[float]


class Ratio(NamedTuple):
    """The median of the ratios of the rounds, the smallest and the largest of them, and all."""

    value: float
    low: float
    high: float
    rounds: list[float]


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """Of the samples of each round."""
    medians, samples = [statistics.median(one) for one in rounds], sum(map(len, rounds))
    if len(medians) < 2:
        return Summary(medians[0], medians[0], medians[0], samples, medians)
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive")
    return Summary(middle, low, high, samples, medians)


def ratio(ours: Sequence[Sequence[float]], peer: Sequence[Sequence[float]]) -> Ratio:
    """Ours over the peer's, within each round; rounds that only one finished are left out."""
    rounds = [
        statistics.median(one) / statistics.median(other)
        for one, other in zip(ours, peer, strict=False)
    ]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds), rounds)


def no_claim(case: str, ours: Mapping[str, Any], peer: Mapping[str, Any]) -> str:
    """Why a ratio stands in brackets, from the facts of both; empty where it does not."""
    counts = [facts["flops"].get(case) for facts in (ours, peer)]
    if None in counts:
        return "FLOPs not counted"
    if abs(counts[0] - counts[1]) > FLOPS_APART * max(counts):
        few = " against ".join(f"{count / 1e9:.3g}" for count in counts)
        return f"{few} GFLOP"
    return ""
