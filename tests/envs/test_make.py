"""Environments by name: suites, one of your own, and what a stranger's name may not do."""

import functools
import pickle

import numpy as np
import pytest

import worldblocks as wb
from worldblocks.envs.named import SUITES
from worldblocks.spaces import Continuous, Discrete


class Countdown:
    """A suite of your own: the number goes down, and `stop` ends the episode with a reward."""

    def __init__(self, start=3):
        self.start = start
        self.observation = {"left": Continuous()}
        self.action = {"action": Discrete(2)}

    def reset(self, seed):
        self.left = self.start + seed % 2
        return self._step(0.0, first=True)

    def step(self, action):
        self.left -= 1
        stop = bool(action["action"])
        return self._step(float(stop and self.left == 0), last=stop or self.left == 0)

    def _step(self, reward, first=False, last=False):
        obs = {"left": np.float32(self.left)}
        return wb.envs.Step(obs, reward, first, last, last)

    def get_state(self):
        return bytes([self.left])

    def set_state(self, state):
        self.left = state[0]

    def close(self):
        pass


@pytest.mark.parametrize(
    ("name", "package", "options", "seen"),
    [
        ("atari:pong", "ale_py", {"size": 32}, "image"),
        ("dmc:cartpole_swingup", "dm_control", {}, "velocity"),
        ("gym:CartPole-v1", "gymnasium", {}, "vector"),
        ("minigrid:BabyAI-GoToLocalS5N2-v0", "minigrid", {}, "direction"),
        ("crafter", "crafter", {}, "image"),
    ],
)
def test_a_suite_before_the_colon(name, package, options, seen):
    pytest.importorskip(package)
    environment = wb.envs.make(name, trusted=False, **options)
    assert seen in environment.observation
    assert environment.reset(0).is_first
    environment.close()
    make = functools.partial(wb.envs.make, name, **options)
    assert pickle.loads(pickle.dumps(make)).args == (name,)


def test_a_factory_of_your_own():
    pytest.importorskip("gymnasium")
    envs = wb.envs.EnvVector(
        [functools.partial(wb.envs.make, f"{__name__}:Countdown", start=n) for n in (2, 3)], seed=0
    )
    left = envs.reset().obs["left"].tolist()
    assert left in ([2.0, 3.0], [3.0, 3.0], [2.0, 4.0], [3.0, 4.0])
    assert envs.action == {"action": Discrete(2)}
    envs.close()


def test_a_suite_wins_over_a_module_of_its_name(monkeypatch):
    """There is a package `gym` on many machines."""
    asked = []
    monkeypatch.setitem(SUITES, "json", lambda name, **options: asked.append((name, options)))
    wb.envs.make("json:loads", repeat=2)
    assert asked == [("loads", {"repeat": 2})]


@pytest.mark.parametrize("name", ["os:getcwd", "gym:os:getcwd", "minigrid:os:x", "worldblocks:x"])
def test_a_name_that_is_not_trusted_imports_nothing(name):
    with pytest.raises(ValueError, match="would import a module, and the name is not trusted"):
        wb.envs.make(name, trusted=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("atri:boxing", r"unknown suite or module 'atri'; did you mean 'atari'\?"),
        ("nothing_like_it:x", r"unknown suite or module 'nothing_like_it'; write 'atari:boxing'"),
        ("atari", r"'atari' is not the name of an environment; write 'crafter', 'atari:boxing'"),
        ("", r"'' is not the name of an environment"),
        (":x", r"unknown suite or module ''"),
        ("crafter:x", r"'crafter:x' is not the name of an environment; write 'crafter'"),
    ],
)
def test_names_of_nothing(name, message):
    with pytest.raises(ValueError, match=message):
        wb.envs.make(name)
