"""Scores in words: their mean and its interval, and whether they beat a random policy."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def summary(scores: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation and, from two episodes on, the 95% interval of the mean.

    The interval is mean ± 1.96 std / sqrt(n), as `low` and `high`.

    >>> {name: round(x, 3) for name, x in summary([0.0, 2.0, 4.0, 6.0]).items()}
    {'mean': 3.0, 'std': 2.582, 'episodes': 4, 'low': 0.47, 'high': 5.53}
    """
    result = {"mean": statistics.fmean(scores), "std": 0.0, "episodes": len(scores)}
    if len(scores) > 1:
        result["std"] = statistics.stdev(scores)
        half = 1.96 * result["std"] / math.sqrt(len(scores))
        result |= {"low": result["mean"] - half, "high": result["mean"] + half}
    return result


def verdict(judged: Mapping[str, Mapping[str, Any]], gated: bool = True) -> str:
    """One line per task: whether its mean score is above the 95th percentile of a random policy's.

    Args:
        judged: by task, `random` and `trained`, each with the `scores` of episodes.
        gated: whether a line is PASS or FAIL; else it is INFO.

    >>> print(verdict({"walk": {"random": {"scores": [1.0, 2.0]}, "trained": {"scores": [3.0]}}}))
    PASS  walk: mean 3 of 1 episodes > 1.95, the 95th percentile of 2 random ones
    """
    lines = []
    for task, scores in judged.items():
        bar = float(np.percentile(scores["random"]["scores"], 95))
        mean = statistics.fmean(scores["trained"]["scores"])
        word, than = ("PASS", ">") if mean > bar else ("FAIL", "not >")
        word = word if gated else "INFO"
        counts = [len(scores[name]["scores"]) for name in ("trained", "random")]
        lines.append(
            f"{word}  {task}: mean {mean:.4g} of {counts[0]} episodes {than} {bar:.4g}, the 95th "
            f"percentile of {counts[1]} random ones"
        )
    return "\n".join(lines)
