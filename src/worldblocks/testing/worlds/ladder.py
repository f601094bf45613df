"""The ladder: known-answer environments in order, with the meaning of each failure."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from worldblocks.envs import Environment
from worldblocks.evaluate import Check, format_report
from worldblocks.testing.worlds.pixels import Catch, Grid
from worldblocks.testing.worlds.vectors import Bandit, Delayed, First, Memory, Scaled, Target

Factory = Callable[[], Environment]
Train = Callable[[Factory, int, int], float]


class Rung(NamedTuple):
    """One environment of the ladder.

    Scores are means over episodes of the sum of their rewards.
    """

    name: str
    environment: Factory
    steps: int  # budget of environment steps, summed over all copies
    needed: float
    optimum: float
    chance: float  # score of uniform random actions
    meaning: str  # of a failure


class Result(NamedTuple):
    """The score of an agent on a rung."""

    rung: Rung
    score: float

    @property
    def passed(self) -> bool:
        """True if the score reaches `needed`; NaN does not."""
        return self.score >= self.rung.needed

    @property
    def check(self) -> Check:
        """The line of a report (see `worldblocks.evaluate.format_report`)."""
        rung, sign = self.rung, ">=" if self.passed else "not >="
        detail = f"{self.score:.3g} {sign} {rung.needed:g} (random {rung.chance:.2g}"
        detail += f", optimum {rung.optimum:g})"
        return Check(rung.name, self.passed, detail if self.passed else f"{detail}: {rung.meaning}")


RUNGS = (
    Rung(
        "bandit",
        Bandit,
        steps=1800,
        needed=3.4,
        optimum=4.0,
        chance=1.0,
        meaning="rewards are not credited to their actions: prev_action must be the action that "
        "led to a row, and the reward must be stored with that row; else the sign of the actor "
        "loss, or a policy that became deterministic too early (more entropy, more prefill)",
    ),
    Rung(
        "first",
        First,
        steps=1800,
        needed=1.7,
        optimum=2.0,
        chance=1.0,
        meaning="the memory is not reset where is_first is set, in acting or in training; or an "
        "action crosses a reset; near 1 the agent does not recognise row 0",
    ),
    Rung(
        "delayed",
        Delayed,
        steps=2400,
        needed=0.85,
        optimum=1.0,
        chance=1 / 3,
        meaning="credit is lost over time: returns off by one row, a continue of 0 before the end, "
        "no bootstrap from a value at the horizon of imagination, or a recurrent state that does "
        "not keep the action of row 0",
    ),
    Rung(
        "scaled",
        functools.partial(Scaled, Bandit, scale=100.0),
        steps=1800,
        needed=340.0,
        optimum=400.0,
        chance=100.0,
        meaning="bandit with rewards of 100: returns are not normalised (the divisor of the "
        "advantage), or a head cannot predict numbers of that size (symlog, two-hot bins)",
    ),
    Rung(
        "memory",
        Memory,
        steps=5000,
        needed=2.6,
        optimum=3.0,
        chance=1.5,
        meaning="near 2, the observation is used but not remembered: the carry is not passed from "
        "row to row, is reset in every row, or is not stored in replay; near 1.5, the observation "
        "is not used",
    ),
    Rung(
        "target",
        Target,
        steps=5000,
        needed=3.0,
        optimum=4.0,
        chance=1.36,
        meaning="continuous actions: the log-probability is not that of the action taken, the "
        "bounds differ from [-1, 1], or the standard deviation does not shrink; near 2.4, the "
        "observation is not used",
    ),
    Rung(
        "grid",
        Grid,
        steps=20_000,
        needed=0.9,
        optimum=1.0,
        chance=0.2,
        meaning="sequences of actions are not learnt: exploration ends too early (entropy), the "
        "discount is too small, or a time limit is treated as a terminal",
    ),
    Rung(
        "catch",
        Catch,
        steps=20_000,
        needed=0.6,
        optimum=1.0,
        chance=-0.76,
        meaning="the latent does not encode the ball: its information is below the free nats "
        "(scale the image loss up to that of 64 by 64 pixels), the axes of the image are mixed up, "
        "or the policy became deterministic too early (entropy)",
    ),
)
"""The rungs in order; each relies on those before it."""


def climb(train: Train, rungs: Sequence[Rung] = RUNGS, *, seed: int = 0) -> list[Result]:
    """Train a new agent on every rung, in order; look at the first failure first.

    Args:
        train: `train(environment, steps, seed)` trains on copies made by `environment()`, for
            `steps` environment steps in all, and returns the mean score of the trained agent over
            100 or more new episodes.
        rungs: the rungs to climb.
        seed: passed to `train`.
    """
    return [Result(rung, float(train(rung.environment, rung.steps, seed))) for rung in rungs]


def format_ladder(results: Sequence[Result]) -> str:
    """One line per rung: PASS or FAIL, the score and the meaning of a failure."""
    return format_report([result.check for result in results])
