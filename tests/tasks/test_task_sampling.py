"""Shares of a batch: by hand, as identities, against counting."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.tasks import LearningProgress, Proportional, TaskSampler, balanced

NAMES = ["stand", "walk", "run"]


def test_equal_shares_by_hand():
    assert TaskSampler(seed=0).counts(NAMES, 6) == {"stand": 2, "walk": 2, "run": 2}
    assert sorted(TaskSampler(seed=0).counts(NAMES, 16).values()) == [5, 5, 6]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5), st.integers(1, 40), st.integers(0, 99))
def test_counts_add_up_and_are_next_to_the_share(weights, n, seed):
    if sum(weights) < 1e-6:
        return
    given_weights = {str(place): weight for place, weight in enumerate(weights)}
    sampler = TaskSampler(seed=seed, weights=lambda _: given_weights)
    counts = sampler.counts(list(given_weights), n)
    assert sum(counts.values()) == n
    for task, weight in given_weights.items():
        share = n * weight / sum(weights)
        assert math.floor(share - 1e-6) <= counts[task] <= math.ceil(share + 1e-6)


def test_counts_are_the_share_in_the_mean():
    sampler = TaskSampler(seed=1, weights=lambda _: {"stand": 1, "walk": 2, "run": 4})
    total = dict.fromkeys(NAMES, 0)
    for _ in range(4000):
        for task, count in sampler.counts(NAMES, 3).items():
            total[task] += count / 4000
    for task, share in (("stand", 3 / 7), ("walk", 6 / 7), ("run", 12 / 7)):
        assert abs(total[task] - share) < 0.03


def test_progress_by_hand():
    """Scores 0, 10: fast 5, slow 1, range 10, progress 0.4; the other has not moved."""
    progress = LearningProgress(fast=0.5, slow=0.1, floor=0.2)
    for score in (0.0, 10.0):
        progress.observe("walk", score)
        progress.observe("run", 3.0)
    assert progress(["walk", "run", "stand"]) == pytest.approx(
        {"walk": 0.2 / 3 + 0.8, "run": 0.2 / 3, "stand": 0.2 / 3}
    )


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_progress_knows_no_unit(factor, offset):
    scores = [0.0, 1.0, 4.0, 2.0]
    plain, scaled = LearningProgress(), LearningProgress()
    for score in scores:
        for one, change in ((plain, lambda x: x), (scaled, lambda x: factor * x + offset)):
            one.observe("walk", change(score))
            one.observe("run", change(score / 2 + 1))
    assert scaled(["walk", "run"]) == pytest.approx(plain(["walk", "run"]), abs=1e-6)


def test_where_nothing_moves_all_weigh_the_same():
    assert LearningProgress()(NAMES) == balanced(NAMES) == dict.fromkeys(NAMES, 1.0)


def test_proportional():
    assert Proportional({"stand": 1, "walk": 3}.get)(["walk"]) == {"walk": 3.0}


def test_it_goes_on_where_it_was_saved():
    """Through JSON, as a checkpoint keeps it."""
    sampler = TaskSampler(seed=5, weights=LearningProgress())
    sampler.observe("walk", [1.0, 2.0])
    sampler.counts(NAMES, 7)
    state = json.loads(json.dumps(sampler.state_dict()))
    again = TaskSampler(seed=0, weights=LearningProgress())
    again.load_state_dict(state)
    assert [again.counts(NAMES, 7) for _ in range(9)] == [
        sampler.counts(NAMES, 7) for _ in range(9)
    ]
    plain = TaskSampler(seed=5)
    plain.observe("walk", [1.0])
    assert "weights" not in plain.state_dict()


@pytest.mark.parametrize("weights", [{}, {"walk": -1.0}, {"walk": math.nan}, {"walk": 0.0}])
def test_weights_that_are_none(weights):
    with pytest.raises(ValueError, match=r"cannot share 1 draws by the weights .*; give at"):
        TaskSampler(seed=0, weights=lambda _: weights).counts(["walk"], 1)


def test_messages():
    for tasks, n in (([], 3), (["walk"], 0)):
        with pytest.raises(ValueError, match="give at least one draw, and finite weights of 0"):
            TaskSampler(seed=0).counts(tasks, n)
    for wrong in ({"slow": 0.5, "fast": 0.3}, {"fast": 1.5}, {"slow": 0.0}, {"floor": 2.0}):
        with pytest.raises(ValueError, match="needs 0 < slow < fast <= 1 and 0 <= floor <= 1, got"):
            LearningProgress(**wrong)
