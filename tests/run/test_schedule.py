import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.run import Every, Ratio

steps = st.lists(st.integers(0, 40), min_size=1, max_size=30).map(lambda d: np.cumsum(d).tolist())


def test_ratio_by_hand():
    ratio = Ratio(0.5)
    assert [ratio(step) for step in (1000, 1001, 1002, 1003, 1013)] == [1, 0, 1, 0, 5]


@pytest.mark.parametrize("name", ["r0p03125", "r0p25", "r0p5", "r1", "r2"])
def test_ratio_against_the_reference(golden, name):
    data = np.load(golden / "l_replay.npz")
    ratio = Ratio(float(data[f"ratio_{name}.ratio"]))
    updates = [ratio(int(step)) for step in data[f"ratio_{name}.steps"]]
    assert updates == data[f"ratio_{name}.updates"].tolist()


@given(steps, st.fractions(0, 3, max_denominator=50))
def test_the_number_of_updates_depends_on_the_step_alone(steps, ratio):
    exact, rounded = Ratio(ratio), Ratio(float(ratio))
    granted = [exact(step) for step in steps]
    assert granted == [rounded(step) for step in steps]
    assert granted[0] == (ratio > 0)
    assert sum(granted) == (ratio > 0) + math.floor((steps[-1] - steps[0]) * ratio)


def test_rounding_errors_do_not_add_up():
    ratio = Ratio(0.1)
    assert sum(ratio(step) for step in range(1, 100_002)) == 1 + 10_000


def test_ratio_zero_never_trains():
    ratio = Ratio(0)
    assert [ratio(step) for step in (0, 10, 10_000)] == [0, 0, 0]


@given(steps, st.integers(0, 29))
def test_saved_schedules_continue(steps, cut):
    whole, before, after = Ratio(0.3), Ratio(0.3), Ratio(0.3)
    every, every_before, every_after = Every(7), Every(7), Every(7)
    expected = [(whole(step), every(step)) for step in steps]
    given_ = [(before(step), every_before(step)) for step in steps[:cut]]
    after.load_state_dict(before.state_dict())
    every_after.load_state_dict(every_before.state_dict())
    assert given_ + [(after(step), every_after(step)) for step in steps[cut:]] == expected


@pytest.mark.parametrize("ratio", [-0.1, float("inf"), float("nan")])
def test_ratio_refuses(ratio):
    with pytest.raises(ValueError, match=f"finite number of updates per step >= 0, got {ratio}"):
        Ratio(ratio)


def test_every_by_hand():
    every = Every(10)
    assert [s for s in (0, 4, 8, 12, 16, 20, 45, 49, 50) if every(s)] == [12, 20, 45, 50]


@given(steps, st.integers(1, 17))
def test_every_is_true_when_a_multiple_was_passed(steps, n):
    every, before = Every(n), 0
    for step in steps:
        assert every(step) == any(step_ % n == 0 for step_ in range(before + 1, step + 1))
        before = step


def test_every_zero_is_never():
    assert not any(Every(n)(step) for n in (0, -1) for step in (0, 1, 100))
