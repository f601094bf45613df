"""Medians, spreads and ratios of samples, and when a ratio claims something."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

FLOPS_APART = 0.10  # two amounts of work that differ by more are not the same work


class Summary(NamedTuple):
    """Median and quartiles of all samples."""

    median: float
    low: float
    high: float
    samples: int


class Ratio(NamedTuple):
    """Median over median, and the range of the same ratio round by round."""

    value: float
    low: float
    high: float


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """Of the samples of all rounds."""
    samples = sorted(sample for one in rounds for sample in one)
    if len(samples) < 2:
        return Summary(samples[0], samples[0], samples[0], 1)
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(statistics.median(samples), low, high, len(samples))


def ratio(ours: Sequence[Sequence[float]], peer: Sequence[Sequence[float]]) -> Ratio:
    """Ours over the peer's; rounds that only one of them finished are left out of the range."""
    paired = [
        statistics.median(one) / statistics.median(other)
        for one, other in zip(ours, peer, strict=False)
    ]
    value = summarise(ours).median / summarise(peer).median
    return Ratio(value, min(paired), max(paired))


def no_claim(case: str, ours: Mapping[str, Any], peer: Mapping[str, Any]) -> str:
    """Why a ratio stands in brackets, from the facts of both; empty where it does not."""
    counts = [facts["flops"].get(case) for facts in (ours, peer)]
    if None in counts:
        return "FLOPs not counted"
    if abs(counts[0] - counts[1]) > FLOPS_APART * max(counts):
        few = " against ".join(f"{count / 1e9:.3g}" for count in counts)
        return f"{few} GFLOP"
    return ""
