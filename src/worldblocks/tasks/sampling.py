"""Share a batch, or other draws, among tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Weights = Callable[[Sequence[str]], Mapping[str, float]]
"""Maps tasks to weights of 0 or more with a sum above 0."""


def balanced(tasks: Sequence[str]) -> dict[str, float]:
    """The same weight for every task."""
    return dict.fromkeys(tasks, 1.0)


class Proportional:
    """Weights in proportion to a size, such as the number of stored rows of each task.

    >>> Proportional({"walk": 300, "run": 100}.get)(["walk", "run"])
    {'walk': 300.0, 'run': 100.0}
    """

    def __init__(self, size: Callable[[str], Any]) -> None:
        self.size = size

    def __call__(self, tasks: Sequence[str]) -> dict[str, float]:
        """The sizes."""
        return {task: float(self.size(task)) for task in tasks}


class LearningProgress:
    """More weight for tasks whose score is changing, up or down.

        progress = |fast - slow| / (highest - lowest score so far)
        weight   = floor / tasks + (1 - floor) progress / sum of progress

    `fast` and `slow` are running means of the score, starting at the first one. While no score has
    changed, all tasks have the same weight.

    Args:
        fast, slow: weight of a new score in each mean.
        floor: share that is spread evenly, so that no task is forgotten.

    Raises:
        ValueError: a share is out of range, or `slow` is not below `fast`.

    Source: Kanitscheider et al. 2021 (arXiv:2106.14876), bidirectional progress; the division by
    the range is ours, because scores of tasks have different units.
    """

    def __init__(self, *, fast: float = 0.3, slow: float = 0.05, floor: float = 0.2) -> None:
        if not (0 < slow < fast <= 1 and 0 <= floor <= 1):
            raise ValueError(
                f"learning progress needs 0 < slow < fast <= 1 and 0 <= floor <= 1, got "
                f"slow={slow}, fast={fast}, floor={floor}"
            )
        self.fast, self.slow, self.floor = fast, slow, floor
        self._means: dict[str, list[float]] = {}  # fast, slow, lowest, highest

    def observe(self, task: str, score: float) -> None:
        """Update the means with the score of a finished episode."""
        fast, slow, low, high = self._means.get(task, [float(score)] * 4)
        fast += self.fast * (score - fast)
        slow += self.slow * (score - slow)
        self._means[task] = [fast, slow, min(low, float(score)), max(high, float(score))]

    def __call__(self, tasks: Sequence[str]) -> dict[str, float]:
        """The weights; a task without a score has no progress."""
        progress = {}
        for task in tasks:
            fast, slow, low, high = self._means.get(task, [0.0] * 4)
            progress[task] = abs(fast - slow) / (high - low) if high > low else 0.0
        total = sum(progress.values())
        if not total:
            return balanced(tasks)
        even = self.floor / len(tasks)
        return {task: even + (1 - self.floor) * own / total for task, own in progress.items()}

    def state_dict(self) -> dict[str, Any]:
        """The means of each task, for a checkpoint."""
        return {"means": {task: list(means) for task, means in self._means.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._means = {task: list(means) for task, means in state["means"].items()}


class TaskSampler:
    """Shares a number of draws among tasks by their weights.

    Of n draws a task with share p gets either ⌊n p⌋ or ⌈n p⌉, and n p in expectation (systematic
    sampling): a batch of 16 for three equal tasks has 5 or 6 windows of each.

    Args:
        seed: seed of the random numbers.
        weights: maps tasks to weights: `balanced`, a `Proportional`, a `LearningProgress`, or your
            own function.

    Source: Kitagawa 1996, systematic resampling.

    >>> TaskSampler(seed=0).counts(["walk", "run"], 6)
    {'walk': 3, 'run': 3}
    """

    def __init__(self, *, seed: int, weights: Weights = balanced) -> None:
        self.weights = weights
        self._random = np.random.default_rng(seed)

    def counts(self, tasks: Sequence[str], n: int) -> dict[str, int]:
        """How many of n draws each task gets.

        Raises:
            ValueError: there is no task, no draw, or a weight is missing, negative or not finite,
                or all are 0.
        """
        weights = np.array([self.weights(tasks).get(task, np.nan) for task in tasks], float)
        good = len(weights) and np.isfinite(weights).all() and (weights >= 0).all()
        if n < 1 or not good or not weights.sum():
            raise ValueError(
                f"cannot share {n} draws by the weights "
                f"{dict(zip(tasks, weights.tolist(), strict=True))}; give at least one draw, and "
                f"finite weights of 0 or more with a sum above 0"
            )
        edges = n * np.cumsum(weights) / weights.sum()
        edges[-1] = n
        upto = np.floor(edges + self._random.random()).astype(int)
        upto[-1] = n
        return dict(zip(tasks, np.diff(upto, prepend=0).tolist(), strict=True))

    def observe(self, task: str, scores: Sequence[float]) -> None:
        """Pass scores of finished episodes to weights that use them (`LearningProgress`)."""
        if hasattr(self.weights, "observe"):
            for score in scores:
                self.weights.observe(task, score)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """The state of the random numbers, and of the weights if they have one."""
        state: dict[str, Any] = {"random": self._random.bit_generator.state}
        if hasattr(self.weights, "state_dict"):
            state["weights"] = self.weights.state_dict()  # type: ignore[attr-defined]
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._random.bit_generator.state = dict(state["random"])
        if "weights" in state:
            self.weights.load_state_dict(state["weights"])  # type: ignore[attr-defined]
