"""The ladder: known-answer environments in order, and what it means to fail at one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from worldblocks.envs import Environment, Step
from worldblocks.run import Check, format_report
from worldblocks.spaces import Discrete
from worldblocks.testing.images import Catch, Grid
from worldblocks.testing.worlds import Bandit, Delayed, Memory, Target

Factory = Callable[[], Environment]
Train = Callable[[Factory, int, int], float]
Policy = Callable[[Step], dict[str, np.ndarray]]


class Rung(NamedTuple):
    """One environment of the ladder.

    Scores are means over episodes of the sum of their rewards.
    """

    name: str
    environment: Factory
    steps: int  # budget of environment steps, over all copies of the environment
    needed: float
    optimum: float
    chance: float  # of uniform random actions
    meaning: str  # of a failure


class Result(NamedTuple):
    """What an agent reached on a rung."""

    rung: Rung
    score: float

    @property
    def passed(self) -> bool:
        """Whether the score is the one that was needed; NaN is not."""
        return self.score >= self.rung.needed

    @property
    def check(self) -> Check:
        """The line of a report (see `worldblocks.run.format_report`)."""
        rung, sign = self.rung, ">=" if self.passed else "not >="
        detail = f"{self.score:.3g} {sign} {rung.needed:g} (random {rung.chance:.2g}"
        detail += f", optimum {rung.optimum:g})"
        return Check(rung.name, self.passed, detail if self.passed else f"{detail}: {rung.meaning}")


RUNGS = (
    Rung("bandit", Bandit, 4096, 3.4, 4.0, 1.0, "TODO"),
    Rung("delayed", Delayed, 4096, 0.85, 1.0, 1 / 3, "TODO"),
    Rung("memory", Memory, 8192, 0.9, 1.0, 0.5, "TODO"),
    Rung("target", Target, 4096, 3.2, 4.0, 1.5, "TODO"),
    Rung("grid", Grid, 8192, 0.9, 1.0, 0.5, "TODO"),
    Rung("catch", Catch, 8192, 0.6, 1.0, -0.7, "TODO"),
)


def climb(train: Train, rungs: Sequence[Rung] = RUNGS, *, seed: int = 0) -> list[Result]:
    """Train a new agent on every rung, from the bottom; the first failure is the one to look at.

    Args:
        train: `train(environment, steps, seed)` trains on copies that `environment()` makes, for
            `steps` environment steps in all, and gives the mean score of the trained agent over
            100 or more episodes that it was not trained on.
        rungs: which ones.
        seed: passed on to `train`.
    """
    return [Result(rung, float(train(rung.environment, rung.steps, seed))) for rung in rungs]


def format_ladder(results: Sequence[Result]) -> str:
    """One line a rung: PASS or FAIL, the score and, where it failed, what that means."""
    return format_report([result.check for result in results])


def mean_score(
    environment: Environment, policy: Policy, *, episodes: int = 100, seed: int = 0
) -> float:
    """Mean over episodes of the sum of rewards; `policy` gives an action for each row.

    >>> mean_score(Bandit(), lambda step: {"arm": np.asarray(2)})
    4.0
    """
    if episodes < 1:
        raise ValueError(f"a mean score was asked over {episodes} episodes; it takes 1 or more")
    total = 0.0
    for one in np.random.SeedSequence(seed).generate_state(episodes):
        step = environment.reset(int(one))
        while not step.is_last:
            step = environment.step(policy(step))
            total += step.reward
    return total / episodes


def random_policy(environment: Environment, seed: int = 0) -> Policy:
    """Uniform random actions, which see nothing.

    >>> 0.9 < mean_score(Bandit(), random_policy(Bandit()), episodes=1000) < 1.1
    True
    """
    random = np.random.default_rng(seed)

    def act(step: Step) -> dict[str, np.ndarray]:
        return {
            key: np.asarray(random.integers(space.classes, size=space.shape))
            if isinstance(space, Discrete)
            else random.uniform(-1, 1, space.shape).astype(np.float32)
            for key, space in environment.action.items()
        }

    return act
