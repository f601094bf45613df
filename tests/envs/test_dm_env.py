"""Any environment of the dm_env interface: specs, seeds, ends, states and names."""

import collections
import functools
import pickle
import random

import numpy as np
import pytest
import torch

import worldblocks as wb
from worldblocks.spaces import Continuous, Discrete, Image

pytest.importorskip("gymnasium")
dm_env = pytest.importorskip("dm_env")
from dm_env import specs  # noqa: E402


class Toy(dm_env.Environment):
    """Observes `draw` from its generator and what it was given; ends after `length` steps."""

    def __init__(self, length=3, discount=0.0, action=None, observed=None, rng=None):
        self.length, self.discount, self.given = length, discount, []
        self.act = action or specs.DiscreteArray(4, name="turn")
        self.observed = observed or {"draw": specs.Array((2,), np.float64, name="draw")}
        self._rng = rng or np.random.RandomState(7)
        self.time, self.turned = 0, 0

    def action_spec(self):
        return self.act

    def observation_spec(self):
        return self.observed

    def reset(self):
        self.time, self.turned = 0, 0
        return dm_env.restart(self.now())

    def step(self, action):
        self.given.append(action)
        self.time += 1
        self.turned += int(action) if isinstance(self.act, specs.DiscreteArray) else 0
        if self.time < self.length:
            return dm_env.transition(reward=0.5, observation=self.now())
        return dm_env.TimeStep(dm_env.StepType.LAST, 2.0, self.discount, self.now())

    def now(self):
        draw = getattr(self._rng, "rand", None) or self._rng.random
        return {"draw": np.array([draw(), self.turned])}


class Stated(Toy):
    """Has its exact state as bytes."""

    def get_state(self):
        return pickle.dumps((self.time, self.turned, self._rng.get_state()))

    def set_state(self, state):
        self.time, self.turned, rng = pickle.loads(state)
        self._rng.set_state(rng)


class Silent(Toy):
    """Gives neither reward nor discount."""

    def now(self):
        return {"draw": np.zeros(2)}

    def step(self, action):
        return super().step(action)._replace(reward=None, discount=None)


class Wrapper:
    """What dm_env wrappers are: not the environment, but around it."""

    def __init__(self, env):
        self._env = env

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def reset(self):
        return self._env.reset()

    def step(self, action):
        return self._env.step(action)


def zeros(environment):
    size = wb.spaces.action_size(environment.action)
    return wb.spaces.split_action(environment.action, np.zeros(size, np.float32))


def catch():
    return Toy(length=5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: wb.envs.dm_env(Toy),
        lambda: wb.envs.dm_env(Toy, length=2, discount=1.0),
        lambda: wb.envs.dm_env(Stated),
        lambda: wb.envs.gym(Toy),
        lambda: wb.envs.dm_env(lambda: Wrapper(Toy(rng=np.random.default_rng(0)))),
        lambda: wb.envs.dm_env(lambda: Wrapper(Wrapper(Toy(rng=random.Random(0))))),
        lambda: wb.envs.make("test_dm_env:catch"),
        lambda: wb.envs.make("dm_env:test_dm_env:catch", repeat=2),
    ],
)
def test_it_keeps_the_promises_of_environments(make):
    wb.testing.check_env(make)
    environment = make()
    assert environment.reset(3).obs["draw"][0] != environment.reset(4).obs["draw"][0]
    assert environment.observation == {"draw": Continuous((2,))}


def test_a_name_imports_and_is_not_trusted():
    with pytest.raises(ValueError, match="would import a module, and the name is not trusted"):
        wb.envs.make("dm_env:test_dm_env:catch", trusted=False)
    envs = wb.envs.EnvVector([functools.partial(wb.envs.make, "dm_env:test_dm_env:catch")], seed=0)
    assert envs.reset().is_first.all()
    envs.close()


def test_the_ends_and_rewards_of_an_episode():
    environment = wb.envs.dm_env(Toy, repeat=2)
    environment.reset(0)
    assert environment.step(zeros(environment))[1:] == (1.0, False, False, False)
    assert environment.step(zeros(environment))[1:] == (2.0, False, True, True)
    with pytest.raises(ValueError, match="no episode is under way"):
        environment.step(zeros(environment))
    for silent, last in ((Silent(length=1), True), (Toy(length=1, discount=0.9), True)):
        environment = wb.envs.dm_env(lambda silent=silent: silent)
        environment.reset(0)
        step = environment.step(zeros(environment))
        assert step[2:] == (False, last, False)
        assert step.reward == (0.0 if isinstance(silent, Silent) else 2.0)


def test_a_state_of_its_own_continues_exactly():
    one, other = (wb.envs.EnvVector([wb.envs.dm_env(Stated, length=9)], seed=s) for s in (1, 2))
    one.reset(), other.reset()
    action = torch.eye(4)[:1]
    one.step(action)
    saved = one.state_dict()
    assert saved["actions"] == [None]
    other.load_state_dict(saved)
    assert torch.equal(one.step(action).obs["draw"], other.step(action).obs["draw"])
    with pytest.raises(ValueError, match="damaged or not an environment state"):
        wb.envs.dm_env(Stated).set_state(b"other")
    with pytest.raises(ValueError, match=r"it has none .*play the actions again"):
        wb.envs.dm_env(Toy).set_state(b"")


def test_a_seed_by_hand():
    seeds = []
    environment = wb.envs.dm_env(Toy, reseed=lambda env, seed: seeds.append((env.length, seed)))
    environment.reset(11)
    assert seeds == [(3, 11)]


Pair = collections.namedtuple("Pair", "left right")
A, B, D = specs.Array, specs.BoundedArray, specs.DiscreteArray


@pytest.mark.parametrize(
    ("spec", "space", "vector", "given"),
    [
        (D(3), {"action": Discrete(3)}, [0, 0, 1], np.int32(2)),
        (B((), np.int64, 2, 4), {"action": Discrete(3)}, [0, 0, 1], np.int64(4)),
        (B((2,), np.int32, -1, 1), {"action": Discrete(3, (2,))}, [0, 0, 1, 1, 0, 0], [1, -1]),
        (
            B((2,), np.uint8, [0, 0], [1, 2]),
            {"action/0": Discrete(2), "action/1": Discrete(3)},
            [0, 1, 0, 0, 1],
            [1, 2],
        ),
        (B((2,), np.float64, [-3, 0], [1, 10]), {"action": Continuous((2,))}, [-1, 0], [-3, 5]),
        (B((), np.float32, 0, 1), {"action": Continuous()}, [1], 1.0),
        (A((2,), bool), {"action": Discrete(2, (2,))}, [0, 1, 1, 0], [True, False]),
        (A((), bool), {"action": Discrete(2)}, [0, 1], True),
        (
            {"b": D(2), "a": B((1,), np.float32, -2, 2)},
            {"a": Continuous((1,)), "b": Discrete(2)},
            [0.5, 0, 1],
            {"a": [1.0], "b": 1},
        ),
        ([D(2), D(2)], {"0": Discrete(2), "1": Discrete(2)}, [1, 0, 0, 1], [0, 1]),
        (Pair(D(2), D(3)), {"0": Discrete(2), "1": Discrete(3)}, [1, 0, 0, 0, 1], Pair(0, 2)),
    ],
)
def test_actions_of_every_spec(spec, space, vector, given):
    toy = Toy(action=spec)
    environment = wb.envs.dm_env(lambda: toy)
    assert environment.action == space
    environment.reset(0)
    environment.step(wb.spaces.split_action(environment.action, np.float32(vector)))
    got = toy.given[0]
    assert type(got) is type(spec) if isinstance(spec, dict | list | tuple) else True
    if isinstance(spec, dict):
        assert {key: value.tolist() for key, value in got.items()} == given
    else:
        np.testing.assert_array_equal(got, given)
    if not isinstance(spec, dict | list | tuple):
        assert spec.validate(got) is not None  # shape, dtype and bounds


@pytest.mark.parametrize("bound", [np.inf, 1e10, 3e38])
def test_an_action_without_bounds_gets_the_number(bound):
    toy = Toy(action=B((1,), np.float64, -bound, bound))
    with pytest.warns(UserWarning, match="have no bounds"):
        environment = wb.envs.dm_env(lambda: toy)
    environment.reset(0)
    environment.step({"action": np.float32([0.5])})
    assert toy.given[0].tolist() == [0.5]


@pytest.mark.parametrize(
    ("spec", "value", "space"),
    [
        (A((5, 7, 3), np.uint8), np.full((5, 7, 3), 9, np.uint8), {"image": Image(8, 8, 3)}),
        (B((5, 7), np.uint8, 0, 255), np.full((5, 7), 9, np.uint8), {"image": Image(8, 8, 1)}),
        (A((2,), np.float64), np.zeros(2), {"vector": Continuous((2,))}),
        (A((2,), np.int64), np.array([7, -7]), {"vector": Continuous((2,))}),
        (B((), np.float32, 0, 1), np.float32(0.5), {"vector": Continuous()}),
        (D(3), np.int32(2), {"vector": Discrete(3)}),
        (A((2,), bool), np.array([True, False]), {"vector": Discrete(2, (2,))}),
        ({"a": {"b": D(3)}}, {"a": {"b": 1}}, {"a/b": Discrete(3)}),
        ([D(3), D(4)], [1, 2], {"0": Discrete(3), "1": Discrete(4)}),
    ],
)
def test_observations_of_every_spec(spec, value, space):
    toy = Toy(observed=spec)
    toy.now = lambda: value
    environment = wb.envs.dm_env(lambda: toy, size=8)
    if "image" not in space:
        assert environment.observation == space
    envs = wb.envs.EnvVector([environment], seed=0)
    envs.reset()  # checks the row against the space
    envs.close()


def test_texts_are_left_out():
    toy = Toy(observed={"draw": A((2,), np.float64), "words": specs.StringArray(())})
    with pytest.warns(UserWarning, match="leaves out the observations 'words'"):
        assert wb.envs.dm_env(lambda: toy).observation == {"draw": Continuous((2,))}


def test_a_task_of_dm_control_is_that_of_dmc():
    suite = pytest.importorskip("dm_control.suite")
    make = functools.partial(suite.load, "cartpole", "swingup")
    ours, theirs = wb.envs.dm_env(make, repeat=2), wb.envs.dmc("cartpole_swingup")
    assert (ours.observation, ours.action) == (theirs.observation, theirs.action)
    wb.testing.check_env(lambda: wb.envs.dm_env(make))
    try:
        pixels = wb.envs.dm_env(make, pixels=True, size=32)
    except RuntimeError as cause:
        pytest.skip(str(cause))
    assert pixels.reset(0).obs["image"].std() > 10


@pytest.mark.parametrize(
    ("env", "options", "error", "message"),
    [
        (Toy(), {}, TypeError, "it takes 'package.module:factory', or a function that makes"),
        (3, {}, TypeError, "wb.envs.dm_env got 3; it takes 'package.module:factory'"),
        (dict, {}, TypeError, "it takes a dm_env.Environment, with reset, step, action_spec"),
        (Toy, {"pixels": True}, ValueError, "which has no `physics` to render; let it observe"),
        (Toy, {"repeat": 0}, ValueError, "wb.envs.dm_env got repeat=0; it takes a whole number"),
        ("catch", {}, ValueError, "got 'catch'; it takes 'package.module:factory'"),
        ("test_dm_env:nobody", {}, ValueError, "but test_dm_env defines no 'nobody'"),
        ("nowhere_at.all:x", {}, ImportError, "no module 'nowhere_at'; it is searched as by"),
        (
            lambda: Toy(action=specs.StringArray(())),
            {},
            ValueError,
            "whose action 'action' is Text",
        ),
        (
            lambda: Toy(action=specs.BoundedArray((), np.int32, -(2**31), 2**31 - 1)),
            {},
            ValueError,
            "whole numbers without bounds; the agent chooses between bounds below",
        ),
    ],
)
def test_what_is_not_an_environment(env, options, error, message):
    with pytest.raises(error, match=message):
        wb.envs.dm_env(env, **options)
