"""The ladder: known-answer environments in order, and what it means to fail at one."""

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
        meaning="rewards do not reach the actions that earned them: is prev_action the action that "
        "led to a row, and the reward stored with that same row? Else the sign of the actor loss, "
        "or a policy that was sure before it had seen rewards (more entropy, more prefill)",
    ),
    Rung(
        "first",
        First,
        steps=1800,
        needed=1.7,
        optimum=2.0,
        chance=1.0,
        meaning="the memory is not reset where is_first is set, in acting or in training; or an "
        "action leads across a reset; near 1 the agent cannot tell row 0 from other rows",
    ),
    Rung(
        "delayed",
        Delayed,
        steps=2400,
        needed=0.85,
        optimum=1.0,
        chance=1 / 3,
        meaning="credit is lost on the way: returns off by one row, a continue that is 0 before "
        "the end, the horizon of imagination not closed by a value, the action of row 0 not kept "
        "in the recurrent state",
    ),
    Rung(
        "scaled",
        functools.partial(Scaled, Bandit, scale=100.0),
        steps=1800,
        needed=340.0,
        optimum=400.0,
        chance=100.0,
        meaning="bandit with rewards of 100: returns are not brought to one scale (the divisor of "
        "the advantage), or a head cannot say numbers of that size (symlog, two-hot bins)",
    ),
    Rung(
        "memory",
        Memory,
        steps=5000,
        needed=2.6,
        optimum=3.0,
        chance=1.5,
        meaning="near 2, what is seen is used and not kept: the carry is not passed from row to "
        "row, is reset in every row, or is not stored with replay; near 1.5 it is not even seen",
    ),
    Rung(
        "target",
        Target,
        steps=5000,
        needed=3.0,
        optimum=4.0,
        chance=1.36,
        meaning="continuous actions: the log-probability is not that of the action that was done, "
        "the bounds differ from [-1, 1], or the standard deviation does not shrink; near 2.4 the "
        "target is not seen",
    ),
    Rung(
        "grid",
        Grid,
        steps=20_000,
        needed=0.9,
        optimum=1.0,
        chance=0.2,
        meaning="several steps in a row do not fit together: exploration ends too early (entropy), "
        "the discount is too small, a time limit is taken for an end",
    ),
    Rung(
        "catch",
        Catch,
        steps=20_000,
        needed=0.6,
        optimum=1.0,
        chance=-0.76,
        meaning="the picture says too little: the ball is lost below the free nats of the latent "
        "(scale the image loss up to that of 64 by 64 pixels), the axes of the image are mixed up, "
        "or the policy was sure too early (entropy)",
    ),
)
"""The rungs from the bottom: each leans on what those below it have shown."""


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
