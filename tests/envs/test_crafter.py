import sys

import numpy as np
import pytest

import worldblocks as wb
from worldblocks.envs.crafter import Crafter
from worldblocks.spaces import Discrete, Image


def act(environment, index=0):
    return environment.step({"action": np.int64(index)})


def test_a_seed_fixes_the_episode():
    pytest.importorskip("crafter", reason="needs the crafter extra")

    def episode(seed):
        environment = wb.envs.crafter(area=12, size=36)
        assert environment.observation == {"image": Image(36, 36, 3)}
        assert environment.action == {"action": Discrete(17)}
        steps = [environment.reset(seed), *(act(environment, t % 7) for t in range(40))]
        return np.stack([step.obs["image"] for step in steps])

    once = episode(3)
    assert (once.shape, once.dtype) == ((41, 36, 36, 3), np.uint8)
    np.testing.assert_array_equal(episode(3), once)
    assert (episode(4) != once).any()


class Fake:
    """The parts of a crafter.Env that the adapter uses; the seed determines how it ends."""

    class observation_space:
        shape = (8, 8, 3)

    class action_space:
        n = 17

    def reset(self):
        assert self._episode == 0
        return np.zeros((8, 8, 3), np.uint8)

    def step(self, action):
        discount = 0.0 if self._seed == 1 else 1.0
        return self.reset() + action, 0.5, self._seed > 0, {"discount": np.float64(discount)}


def test_death_is_terminal_and_the_limit_is_not():
    environment = Crafter(Fake())
    flags = {0: (False, False), 1: (True, True), 2: (True, False)}
    for seed, (last, terminal) in flags.items():
        assert environment.reset(seed)[1:] == (0.0, True, False, False)
        step = act(environment, 5)
        assert (step.obs["image"] == 5).all()
        assert step[1:] == (0.5, False, last, terminal)


def test_errors_of_use(monkeypatch):
    environment = Crafter(Fake())
    with pytest.raises(ValueError, match=r"asked crafter for a step.*; reset\(seed\) begins one"):
        act(environment)
    assert environment.get_state() is None
    with pytest.raises(ValueError, match=r"crafter to continue .* reset\(seed\) and play the acti"):
        environment.set_state(b"")
    with pytest.raises(ValueError, match=r"wb.envs.crafter got length=0; it takes a whole number"):
        wb.envs.crafter(length=0)
    monkeypatch.setitem(sys.modules, "crafter", None)
    with pytest.raises(ImportError) as error:
        wb.envs.crafter()
    assert str(error.value) == (
        "wb.envs.crafter needs the extra 'crafter': pip install -e \".[crafter]\""
    )
