import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.evaluate import binned_scores, first_hit, iqm, iqm_interval


def test_bins_by_hand():
    """(10, 20] holds 1 and 3, (20, 30] holds 7, the next two carry it; 45 is in (40, 50]."""
    steps, scores = np.array([13, 20, 21, 45]), np.array([1.0, 3.0, 7.0, 9.0])
    edges, means = binned_scores(steps, scores, 10)
    assert edges.tolist() == [20, 30, 40, 50]
    assert means.tolist() == [2, 7, 7, 9]
    edges, means = binned_scores(steps, scores, 10, until=70)
    assert edges.tolist() == [20, 30, 40, 50, 60, 70]
    assert means.tolist() == [2, 7, 7, 9, 9, 9]
    assert binned_scores(steps, scores, 10, until=30)[1].tolist() == [2, 7]


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(-9, 9)), min_size=1, max_size=20),
    st.integers(1, 90),
)
def test_bins_against_a_loop(episodes, width):
    steps, scores = map(np.array, zip(*sorted(episodes), strict=True))
    edges, means = binned_scores(steps, scores, width)
    wanted, edge = {}, 0
    while edge < steps[-1]:
        inside = [b for a, b in zip(steps, scores, strict=True) if edge < a <= edge + width]
        edge += width
        if inside or wanted:
            wanted[edge] = np.mean(inside) if inside else wanted[edge - width]
    assert edges.tolist() == list(wanted)
    assert np.allclose(means, list(wanted.values()))


@pytest.mark.parametrize(
    ("steps", "scores", "width"), [([], [], 5), ([1, 2], [0.0], 5), ([1], [0.0], 0)]
)
def test_scores_that_cannot_be_binned(steps, scores, width):
    with pytest.raises(ValueError, match=rf"given {len(steps)} steps.*{width}; it takes as many"):
        binned_scores(np.array(steps), np.array(scores), width)


def test_first_hit_by_hand():
    """Means of three: 2 (step 12), 3 (step 13), 5 (step 20)."""
    steps, scores = [10, 11, 12, 13, 20], [6.0, 0.0, 0.0, 9.0, 6.0]
    assert first_hit(steps, scores, 2.0, count=3) == 12
    assert first_hit(steps, scores, 3.0, count=3) == 13
    assert first_hit(steps, scores, 5.0, count=3) == 20
    assert first_hit(steps, scores, 5.1, count=3) is None
    assert first_hit(steps, scores, 0.0) is None  # ten episodes are not there
    assert first_hit([], [], 0.0) is None


def test_iqm_by_hand():
    """At each end 2 of 8, 1 of 5 and 0 of 3 scores are cut off."""
    pytest.importorskip("scipy")
    assert iqm([70.0, 1.0, 0.0, 2.0, 3.0, 6.0, 5.0, 4.0]) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm([1.0, 2.0, 3.0, 9.0, 100.0]) == pytest.approx(14 / 3)
    assert iqm([1.0, 2.0, 6.0]) == pytest.approx(3.0)
    assert iqm(np.array([[1.0, 2.0], [4.0, 50.0]])) == pytest.approx(3.0)


def test_iqm_is_not_the_mean_of_three_percentiles():
    pytest.importorskip("scipy")
    scores = [0.0, 0.0, 1.0, 1.0, 1.0, 7.0, 8.0, 9.0]
    assert iqm(scores) == pytest.approx(10 / 4)
    assert np.percentile(scores, [25, 50, 75]).mean() == pytest.approx((0.75 + 1 + 7.25) / 3)


def test_interval_by_hand():
    """The middle two of four scores: the larger of the low task, the smaller of the high one.

    Resampled within each task these are (0, 10) in 3 of 16 cases, (0, 11) in 1, (1, 10) in 9 and
    (1, 11) in 3. A bootstrap without strata could draw a single task, and reach 0.5 or 10.5.
    """
    pytest.importorskip("scipy")
    scores = {"low": [0.0, 1.0], "high": [10.0, 11.0]}
    assert iqm_interval(scores) == pytest.approx((5.5, 5.0, 6.0))
    assert iqm_interval(scores, confidence=0.5, seed=3) == pytest.approx((5.5, 5.5, 5.5))


def test_the_interval_depends_on_the_seed_only():
    pytest.importorskip("scipy")
    scores = {"a": [0.1, 0.7, 0.9], "b": [0.2, 0.3, 1.5]}
    first = iqm_interval(scores, resamples=50, seed=1)
    assert first == iqm_interval(scores, resamples=50, seed=1)
    assert first.low < first.value < first.high


@pytest.mark.parametrize("scores", [{"one": [1.0, 2.0, 3.0]}, {"a": [1.0, 2.0], "b": [1.0]}, {}])
def test_an_interval_takes_several_tasks(scores):
    with pytest.raises(ValueError, match=r"numbers of seeds: \{.*\}; it takes two or more tasks"):
        iqm_interval(scores)


def test_iqm_of_nothing():
    with pytest.raises(ValueError, match=r"iqm was given \[\]; it takes one or more finite"):
        iqm([])
    with pytest.raises(ValueError, match=r"given \[1.0, nan\]; it takes"):
        iqm([1.0, float("nan")])


def test_a_missing_package_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ImportError, match=r"iqm needs the package 'scipy': pip install"):
        iqm([1.0])
