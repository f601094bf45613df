"""Climbing: what is passed on, what is printed, and that only a good score passes."""

import math

import numpy as np
import pytest

from worldblocks.envs import EnvVector
from worldblocks.evaluate import play, random_policy
from worldblocks.testing import RUNGS, climb, format_ladder


def test_every_rung_is_trained_on_its_own_budget():
    calls = []

    def train(environment, steps, seed):
        calls.append((environment, steps, seed))
        return 0.0

    results = climb(train, seed=7)
    assert calls == [(rung.environment, rung.steps, 7) for rung in RUNGS]
    assert not any(result.passed for result in results)


def test_chance_fails_every_rung():
    def train(environment, steps, seed):
        envs = EnvVector([environment() for _ in range(20)], seed=seed)
        return np.mean(play(random_policy(envs, seed), envs, 200))

    assert [result.passed for result in climb(train)] == [False] * len(RUNGS)


@pytest.mark.parametrize("score", [math.nan, -math.inf, 3.39])
def test_a_failure_is_explained(score):
    [result] = climb(lambda *_: score, RUNGS[:1])
    assert not result.passed
    text = format_ladder([result])
    assert text.startswith(f"FAIL  bandit: {score:.3g} not >= 3.4 (random 1, optimum 4): ")
    assert text.endswith(RUNGS[0].meaning)


def test_a_pass_is_one_short_line():
    [result] = climb(lambda *_: np.float32(3.5), RUNGS[:1])
    assert format_ladder([result]) == "PASS  bandit: 3.5 >= 3.4 (random 1, optimum 4)"
    assert result.check.passed is True


def test_every_rung_says_what_its_failure_means():
    assert all(len(rung.meaning) > 60 and "TODO" not in rung.meaning for rung in RUNGS)
    assert len({rung.meaning for rung in RUNGS}) == len(RUNGS)
