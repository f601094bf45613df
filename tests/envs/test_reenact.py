import numpy as np
import pytest
from toy_environments import Walk

from worldblocks.envs import ActionLog, reenact

rows = np.random.default_rng(0).normal(size=(150, 7)).astype(np.float32)


def test_a_log_gives_back_what_it_was_given():
    log = ActionLog(7)
    for row in rows:
        log.append(row)
    assert len(log) == 150
    np.testing.assert_array_equal(log.rows(), rows)
    other = ActionLog(7)
    other.replace(log.rows())
    np.testing.assert_array_equal(other.rows(), rows)
    log.clear()
    assert log.rows().shape == (0, 7)


def test_a_log_refuses_actions_of_another_space():
    with pytest.raises(ValueError, match=r"of shape \(150, 7\); this environment takes \(steps, 3"):
        ActionLog(3).replace(rows)


def test_the_same_seed_and_actions_lead_to_the_same_row():
    first, second = Walk(9), Walk(9)
    place = reenact(first, 5, rows[:6]).obs["place"]
    np.testing.assert_array_equal(reenact(second, 5, rows[:6]).obs["place"], place)
    assert (reenact(second, 6, rows[:6]).obs["place"] != place).all()


def test_an_episode_that_ends_early_is_another_one():
    assert reenact(Walk(6), 5, rows[:6]).is_last
    assert reenact(Walk(5), 5, rows[:6]) is None
