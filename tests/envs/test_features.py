"""Features of environments: added as targets, kept from the encoder, equal to the simulator."""

import numpy as np
import pytest
import torch
from toy_environments import Walk

from worldblocks.encoders import dreamer_encoder
from worldblocks.envs import BODIES, EnvVector, Feature, Featured, split_features
from worldblocks.envs.dmc.bodies import dmc_features
from worldblocks.spaces import Continuous


class Places:
    """Two features of a `Walk`."""

    def __init__(self, walk):
        self.walk, self.ranges = walk, {"x": Feature(-9.0, 9.0), "new": Feature(0.0, 1.0, bit=True)}

    def features(self, is_first):
        return {"x": float(self.walk.place[0]), "new": float(is_first)}


def featured():
    walk = Walk()
    return Featured(walk, Places(walk))


MOVE = {"move": np.int64(2), "push": np.zeros(3, np.float32)}


def test_features_are_added_and_nothing_else_changes():
    env, plain = featured(), Walk()
    pairs = [(env.reset(5), plain.reset(5))]
    pairs += [(env.step(MOVE), plain.step(MOVE)) for _ in range(4)]
    for ours, theirs in pairs:
        assert ours[1:] == theirs[1:]
        observed, features = split_features(ours.obs)
        assert observed.keys() == theirs.obs.keys()
        assert all(np.array_equal(observed[key], theirs.obs[key]) for key in observed)
        assert features["x"] == theirs.obs["place"][0]
        assert features["x"].dtype == np.float32
    assert [float(ours.obs["feat/new"]) for ours, _ in pairs] == [1, 0, 0, 0, 0]


def test_an_encoder_does_not_receive_features():
    """An encoder built after `split_features` ignores features, and refuses one as input."""
    env = featured()
    observed, features = split_features(env.observation)
    assert observed == dict(Walk.observation)
    assert features == {"x": Continuous(), "new": Continuous()}
    spaces = {"place": observed["place"]}
    encoder = dreamer_encoder(spaces, depth=2, units=5)
    assert encoder.keys == ["place"]
    rows = EnvVector([featured], seed=0).reset()
    obs, values = split_features(rows.obs)
    assert sorted(values) == ["new", "x"]
    obs.pop("image")
    torch.manual_seed(0)
    embed = encoder(obs)
    changed = {**rows.obs, "feat/x": rows.obs["feat/x"] + 100}
    again = split_features(changed)[0]
    again.pop("image")
    assert torch.equal(encoder(again), embed)
    with pytest.raises(KeyError, match=r"unexpected \['feat/x'\]"):
        encoder({**obs, "feat/x": values["x"]})


def test_a_taken_name():
    env = featured()
    with pytest.raises(ValueError, match=r"already observes \['feat/new', 'feat/x'\]"):
        Featured(env, Places(Walk()))


def test_features_are_played_again_with_an_episode():
    env = featured()
    assert env.get_state() is None
    with pytest.raises(ValueError, match="with features to continue from a state; it has none"):
        env.set_state(b"")


@pytest.mark.parametrize(
    ("body", "task"),
    [
        ("walker", "walker_walk"),
        ("cheetah", "cheetah_run"),
        ("hopper", "hopper_hop"),
        ("cartpole", "cartpole_swingup"),
    ],
)
def test_bodies_are_read_within_their_ranges(body, task):
    pytest.importorskip("dm_control", reason="needs the dmc extra")
    env = dmc_features(task)
    random = np.random.default_rng(0)
    env.reset(0)
    for _ in range(20):
        shape = env.action["action"].shape
        obs = env.step({"action": random.uniform(-1, 1, shape).astype(np.float32)}).obs
        for name, (low, high, _) in BODIES[body].features.items():
            margin = 0.2 * (high - low)
            assert low - margin <= float(obs[f"feat/{name}"]) <= high + margin, name
    assert len(env.describer.describe()) == len(BODIES[body].features)
    env.close()


def test_the_walkers_features_are_those_its_reward_is_made_of():
    """Stand: (3·[height over 1.2 m] + (1 + upright) / 2) / 4, as dm_control writes it."""
    rewards = pytest.importorskip("dm_control.utils.rewards", reason="needs the dmc extra")
    env = dmc_features("walker_stand", repeat=1)
    env.reset(3)
    for step in range(10):
        action = np.full(6, (-1) ** step, np.float32)
        row = env.step({"action": action})
        _, now = split_features(row.obs)
        height = rewards.tolerance(float(now["height"]), (1.2, np.inf), margin=0.6)
        stand = (3 * height + (1 + float(now["upright"])) / 2) / 4
        assert row.reward == pytest.approx(stand, rel=1e-4)
        assert float(now["effort"]) == pytest.approx(1.0)
        assert float(now["lean"]) ** 2 + float(now["upright"]) ** 2 == pytest.approx(1, abs=1e-4)


def test_bodies_that_are_not_known():
    with pytest.raises(ValueError, match="no features are known of the body 'acrobot'; of walker"):
        dmc_features("acrobot_swingup")
