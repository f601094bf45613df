"""Statistics of episode scores: means, bins, first hits, interquartile means."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from worldblocks.run.curve import running_mean
from worldblocks.run.extras import extra

QUARTER = 0.25


class Interval(NamedTuple):
    """A number and its confidence interval."""

    value: float
    low: float
    high: float


def summary(scores: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation and, given two or more episodes, the 95% interval.

    The interval of the mean is mean ± 1.96 std / sqrt(n), as `low` and `high`.

    >>> {name: round(x, 3) for name, x in summary([0.0, 2.0, 4.0, 6.0]).items()}
    {'mean': 3.0, 'std': 2.582, 'episodes': 4, 'low': 0.47, 'high': 5.53}
    """
    result = {"mean": statistics.fmean(scores), "std": 0.0, "episodes": len(scores)}
    if len(scores) > 1:
        result["std"] = statistics.stdev(scores)
        half = 1.96 * result["std"] / math.sqrt(len(scores))
        result |= {"low": result["mean"] - half, "high": result["mean"] + half}
    return result


def binned_scores(
    steps: np.ndarray, scores: np.ndarray, width: float, *, until: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean score of the episodes in each bin (x - width, x], as in published curves.

    An empty bin repeats the value before it. Bins before the first episode are left out.

    Args:
        steps: Step at the end of each episode, ascending, 1 or more.
        scores: Scores of the same episodes.
        width: Bin width, in the unit of `steps`.
        until: Last step of the bins; that of the last episode if None.

    Returns:
        The right edge of each bin and its value.

    >>> edges, means = binned_scores(np.array([13, 20, 21, 45]), np.array([1.0, 3.0, 7.0, 9.0]), 10)
    >>> edges.tolist(), means.tolist()
    ([20.0, 30.0, 40.0, 50.0], [2.0, 7.0, 7.0, 9.0])
    """
    if not len(steps) or len(steps) != len(scores) or width <= 0:
        raise ValueError(
            f"binned_scores was given {len(steps)} steps, {len(scores)} scores and bins of "
            f"{width:g}; it takes as many scores as steps, at least one, and a positive bin width"
        )
    place = np.ceil(np.asarray(steps) / width).astype(int)
    last = int(place[-1] if until is None else np.ceil(until / width))
    bins = np.arange(place[0], max(last, place[0]) + 1)
    means = [np.mean(np.asarray(scores, float)[place == one]) for one in bins if one in place]
    filled = np.cumsum(np.isin(bins, place)) - 1  # for each bin, the last one with an episode
    return bins * float(width), np.array(means)[filled]


def first_hit(
    steps: Sequence[int] | np.ndarray,
    scores: Sequence[float] | np.ndarray,
    threshold: float,
    count: int = 10,
) -> int | None:
    """The first step at which the mean of the last `count` episodes reaches `threshold`.

    None if it never does. A mean needs `count` episodes, so one lucky episode is not a hit.

    >>> first_hit([5, 9, 14, 20], [0.0, 4.0, 2.0, 6.0], threshold=3.0, count=2)
    14
    """
    means = running_mean(np.asarray(scores, float), count)
    there = np.flatnonzero(means[count - 1 :] >= threshold)
    return int(steps[there[0] + count - 1]) if len(there) else None


def iqm(scores: Sequence[float] | np.ndarray) -> float:
    """Interquartile mean: the mean without the ⌊n / 4⌋ lowest and the ⌊n / 4⌋ highest scores.

    It is not the mean of the three quartiles. For 0 1 2 3 4 5 6 70 it is (2 + 3 + 4 + 5) / 4 = 3.5.

    **Source**: Agarwal et al., Deep RL at the Edge of the Statistical Precipice (2021).
    """
    values = np.asarray(scores, float).ravel()
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"iqm was given {values.tolist()}; it takes one or more finite scores")
    return float(extra("scipy.stats", "iqm", extras=()).trim_mean(values, QUARTER))


def iqm_interval(
    scores: Mapping[str, Sequence[float]],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interquartile mean over all seeds of several tasks, with a stratified bootstrap interval.

    Seeds are resampled with replacement within each task (percentile method), so every resample
    has each task equally often. It takes at least two tasks.

    Args:
        scores: Normalised score of each seed, by task.
        confidence: Confidence level of the interval.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    values = [np.asarray(own, float) for own in scores.values()]
    if len(values) < 2 or any(own.ndim != 1 or own.size < 2 for own in values):
        given = {task: np.size(own) for task, own in scores.items()}
        raise ValueError(
            f"iqm_interval was given tasks with these numbers of seeds: {given}; it takes two or "
            f"more tasks with two or more seeds each"
        )
    stats = extra("scipy.stats", "iqm_interval", extras=())

    def statistic(*tasks: np.ndarray, axis: int = -1) -> np.ndarray:
        return stats.trim_mean(np.concatenate(tasks, axis=axis), QUARTER, axis=axis)

    found = stats.bootstrap(
        values,
        statistic,
        n_resamples=resamples,
        paired=False,
        confidence_level=confidence,
        method="percentile",
        rng=seed,
    )
    low, high = found.confidence_interval
    return Interval(iqm(np.concatenate(values)), float(low), float(high))


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a proportion p = successes / n, 95% by default.

    Source: Wilson 1927.

        (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    >>> [round(end, 3) for end in wilson(5, 10)]
    [0.237, 0.763]
    """
    if not 0 <= successes <= trials or not trials:
        raise ValueError(
            f"a proportion needs at least one trial and 0 ≤ successes ≤ trials, got {successes} "
            f"successes in {trials} trials"
        )
    share, more = successes / trials, z * z / trials
    middle, half = share + more / 2, z * math.sqrt(share * (1 - share) / trials + more / 4 / trials)
    return (middle - half) / (1 + more), (middle + half) / (1 + more)
