"""Our environments in the interface of gymnasium."""

import numpy as np
import pytest

from worldblocks.spaces import Continuous, Discrete, Image
from worldblocks.testing import Catch, Grid, Target

gymnasium = pytest.importorskip("gymnasium")

from benchmarks.learning.gym_bridge import GymBridge  # noqa: E402


def test_an_image_stays_one_and_an_end_is_terminated():
    env = GymBridge(Catch(cells=3, side=6))
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (6, 6, 1), np.uint8)
    assert env.action_space == gymnasium.spaces.Discrete(3)
    first, info = env.reset(seed=4)
    assert (first.shape, info) == ((6, 6, 1), {})
    _, reward, terminated, truncated, _ = env.step(np.int64(1))
    assert (reward, terminated, truncated) == (0.0, False, False)
    _, reward, terminated, truncated, _ = env.step(1)
    assert (abs(reward), terminated, truncated) == (1.0, True, False)


def test_a_time_limit_is_truncated():
    env = GymBridge(Target(steps=1))
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    env.reset(seed=0)
    _, _, terminated, truncated, _ = env.step(np.zeros(1, np.float32))
    assert (terminated, truncated) == (False, True)


def test_vectors_are_joined_in_the_order_of_their_keys():
    env = GymBridge(Grid(cells=4, side=0))
    flat, _ = env.reset(seed=1)
    step = Grid(cells=4, side=0).reset(1)
    assert flat.dtype == np.float32
    assert flat.tolist() == [*step.obs["goal"], *step.obs["you"]]
    assert env.observation_space.contains(flat)


def test_episodes_follow_from_the_first_seed():
    def play():
        env = GymBridge(Grid())
        return [env.reset(seed=seed)[0].tolist() for seed in (3, None, None)]

    assert play() == play()
    assert play()[1] != play()[2]


class Odd:
    observation = {"image": Image(4, 4, 3), "speed": Continuous((1,))}  # noqa: RUF012
    action = {"move": Discrete(2)}  # noqa: RUF012


def test_what_it_cannot_be_is_a_sentence():
    with pytest.raises(ValueError, match=r"GymBridge was given observation .*; it takes one image"):
        GymBridge(Odd())
