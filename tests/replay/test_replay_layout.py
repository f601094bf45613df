"""Wrong rows raise an error that names the value, and nothing is stored."""

import numpy as np
import pytest
import torch
from replay_rows import Packed, equal, filled, packed, row

from worldblocks.replay import SequenceReplay

pytestmark = pytest.mark.usefixtures("every_storage")


def changed(time, **obs):
    given = row(time, 3)
    return given | {"obs": given["obs"] | obs}


def refuses(match, first=True, **wrong):
    """Check the error for a first row and for a later row."""
    for rows in (0, 12) if first else (12,):
        replay, twin = filled(rows), filled(rows)
        with pytest.raises(ValueError, match=match):
            replay.add(**row(rows, 3) | wrong)
        assert replay.steps == twin.steps == 3 * rows
        for time in range(rows, 15):  # the wrong one left no trace
            replay.add(**row(time, 3))
            twin.add(**row(time, 3))
        equal(replay.sample(4), twin.sample(4))


def test_a_misspelt_observation():
    wrong = row(12, 3)["obs"]
    wrong["imag"] = wrong.pop("image")
    match = r"unknown observation 'imag'; this replay stores \['image', 'which'\]"
    refuses(match, first=False, obs=wrong)


def test_a_missing_observation():
    match = r"observation 'image' is missing; this replay stores \['image', 'which'\]"
    refuses(match, first=False, obs={"which": row(12, 3)["obs"]["which"]})


def test_a_carry_of_other_parts():
    carry = packed(torch.arange(3))
    match = r"unknown carry 'extra'; this replay stores \['deter', 'more/0', 'stoch'\]"
    refuses(match, first=False, carry=carry._asdict() | {"extra": carry.deter})
    refuses("carry 'deter' is missing; this", first=False, carry=None)


def test_an_observation_that_changes():
    wide = changed(12, image=torch.zeros(3, 4, 7, 1, dtype=torch.uint8))
    match = r"observation 'image' is uint8\[3, 4, 7, 1\]; here it must be uint8\[3, 4, 6, 1\]"
    refuses(match, first=False, obs=wide["obs"])
    other = changed(12, which=torch.zeros(3))
    match = r"observation 'which' is float32\[3\]; here it must be int64\[3\]"
    refuses(match, first=False, obs=other["obs"])


def test_float_images():
    obs = changed(0, image=torch.zeros(3, 4, 6, 1))["obs"]
    match = r"observation 'image' is float32\[3, 4, 6, 1\]; (an image|here it) must be uint8"
    refuses(match, obs=obs)


def test_float64_vectors():
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    obs = {"joints": torch.zeros(3, 5, dtype=torch.float64)}
    with pytest.raises(ValueError, match=r"'joints' is float64\[3, 5\].*float32 with at most 2"):
        replay.add(**row(0, 3, obs=obs))


def test_int8_actions():
    action = torch.zeros(3, 5, dtype=torch.int8)
    refuses(r"prev_action is int8\[3, 5\]; .*must be float32\[3, (action|5)\]", prev_action=action)


def test_actions_without_an_axis():
    match = r"prev_action is float32\[3\]; .*must be float32\[3, (action|5)\]"
    refuses(match, prev_action=torch.zeros(3))


def test_flags_that_are_not_boolean():
    refuses(r"is_last is int64\[3\]; .*must be bool\[3\]", is_last=torch.zeros(3).long())


def test_arrays_that_are_not_tensors():
    refuses("reward is a NumPy array .*torch.as_tensor", reward=np.zeros(3, np.float32))


def test_another_number_of_streams():
    refuses(
        r"reward is float32\[2\]; (each value .* the 3 rows|here .*\[3\])", reward=torch.zeros(2)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(value):
    reward = torch.tensor([0.0, value, 1.0])
    refuses(rf"reward of stream 1 holds {value} at row (0|12); only finite rows", reward=reward)
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    joints = torch.zeros(3, 5)
    joints[2, 3] = value
    with pytest.raises(ValueError, match=f"observation 'joints' of stream 2 holds {value} at row"):
        replay.add(**row(0, 3, obs={"joints": joints}))


def test_context_needs_a_carry():
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    with pytest.raises(ValueError, match="context=1 starts windows from stored carries, but carry"):
        replay.add(**row(0, 3, carry=None))


def test_the_first_row_may_be_vectors_of_every_stored_kind():
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    obs = {
        "joints": torch.zeros(3, 5),
        "grid": torch.zeros(3, 5, 2),
        "time": torch.zeros(3),
        "on": torch.zeros(3, 4, dtype=torch.bool),
        "tool": torch.zeros(3, dtype=torch.int32),
    }
    for time in range(3):
        replay.add(**row(time, 3, obs=obs))
    batch = replay.sample(7)
    for key, value in obs.items():
        assert batch.obs[key].shape == (7, 2, *value.shape[1:])
        assert batch.obs[key].dtype == value.dtype


def test_a_carry_may_come_with_a_gradient():
    carry = packed(torch.arange(3))
    carry = Packed(carry.deter.clone().requires_grad_(), carry.stoch, carry.more)
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    for time in range(3):
        replay.add(**row(time, 3, carry=carry))
    assert not replay.sample(2).carry.deter.requires_grad


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_of_many_numbers_that_is_not_finite(value):
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    joints = torch.zeros(3, 500)
    joints[1, 77] = value
    with pytest.raises(ValueError, match=f"observation 'joints' of stream 1 holds {value} at row"):
        replay.add(**row(0, 3, obs={"joints": joints}))


def test_large_numbers_are_finite():
    """Their sum is not, in float32."""
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    obs = {"joints": torch.full((3, 500), 3e38)}
    for time in range(3):
        replay.add(**row(time, 3, reward=torch.full((3,), -3e38), obs=obs))
    assert (replay.sample(2).reward < -2e38).all()
