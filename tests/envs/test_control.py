import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import worldblocks as wb
from worldblocks.envs import rendering
from worldblocks.envs.dmc.control import Control, _check_camera
from worldblocks.spaces import Continuous, Image


class Timer:
    """The parts of a dm_control environment that the adapter uses; step t has reward t."""

    def __init__(self, ends, discount=1.0, low=-1.0, high=1.0):
        self.ends, self.discount, self.actions = ends, discount, []
        self.spec = SimpleNamespace(shape=(2,), minimum=np.float64(low), maximum=np.float64(high))
        self.task = SimpleNamespace(random=np.random.RandomState(0))

    def action_spec(self):
        return self.spec

    def observation_spec(self):
        return {"draw": SimpleNamespace(shape=()), "time": SimpleNamespace(shape=(1,))}

    def reset(self):
        self.time, self.draw = 0, self.task.random.rand()
        return self.now()

    def step(self, action):
        assert self.time < self.ends
        self.actions.append(action.tolist())
        self.time += 1
        return self.now()

    def now(self):
        over = self.time == self.ends
        return SimpleNamespace(
            observation={"draw": self.draw, "time": np.array([self.time])},
            reward=float(self.time),
            discount=self.discount if over else 1.0,
            last=lambda: over,
        )


def control(env, repeat=2):
    return Control(env, pixels=False, size=8, repeat=repeat, camera=0, shadows=True)


def push(environment, *values):
    return environment.step({"action": np.float32(values or (0, 0))})


def test_rewards_of_a_repeat_and_how_an_episode_ends():
    environment = control(Timer(3))
    with pytest.raises(ValueError, match=r"no episode is under way; reset\(seed\) begins one"):
        push(environment)
    assert environment.reset(0)[1:] == (0.0, True, False, False)
    assert push(environment)[1:] == (1 + 2, False, False, False)
    last = push(environment)  # without the second control step of the repeat
    assert last[1:] == (3, False, True, False)
    assert last.obs["time"].tolist() == [3]
    with pytest.raises(ValueError, match="asked a DeepMind Control task for a step, but no epis"):
        push(environment)
    terminal = control(Timer(1, discount=0.0))
    terminal.reset(0)
    assert push(terminal)[1:] == (1, False, True, True)


def test_actions_are_clipped_and_scaled_to_the_bounds():
    env = Timer(9, low=[-3, 0], high=[1, 10])
    environment = control(env, repeat=1)
    environment.reset(0)
    for values in ((-1, 1), (0, 0), (7, -7)):
        push(environment, *values)
    assert env.actions == [[-3, 10], [-1, 5], [1, 0]]


def test_a_motor_without_bounds_gets_the_number_unchanged():
    env = Timer(9, low=[-1e10, 0], high=[1e10, 10])
    environment = control(env, repeat=1)
    environment.reset(0)
    push(environment, 0.5, 0.5)
    assert env.actions == [[0.5, 7.5]]


def test_observations_of_the_suite():
    environment = wb.envs.dmc("ball_in_cup_catch")
    assert environment.observation == {"position": Continuous((4,)), "velocity": Continuous((4,))}
    assert environment.action == {"action": Continuous((2,))}
    walker = wb.envs.dmc("walker_walk")
    assert walker.observation["height"] == Continuous(())
    vector = wb.envs.EnvVector([walker], seed=0)
    rows = vector.reset()
    encoder = wb.encoders.dreamer_encoder(vector.observation, depth=1, units=8)
    actor = wb.heads.ActorHead(8, vector.action, units=8, layers=1)
    rows = vector.step(actor(encoder(rows.obs)).sample())
    assert rows.obs["height"].shape == (1,)
    assert rows.obs["height"].dtype == torch.float32
    vector.close()


def test_the_time_limit_is_not_terminal():
    environment = wb.envs.dmc("cartpole_swingup", repeat=250)
    environment.reset(0)
    flags = [push(environment, 0)[3:] for _ in range(4)]
    assert flags == [(False, False)] * 3 + [(True, False)]


# State that could leak between episodes: contacts, a warm start of the solver, a changed model.
@pytest.mark.parametrize("task", ["cartpole_swingup", "walker_walk", "finger_turn_hard"])
def test_a_seed_gives_the_episode_of_a_freshly_loaded_task(task):
    from dm_control import suite

    def actions(environment):
        return np.random.default_rng(1).uniform(-1, 1, (20, environment.action["action"].size))

    def episode(seed):
        steps = [environment.reset(seed), *(push(environment, *a) for a in actions(environment))]
        return np.stack([np.concatenate([np.ravel(v) for v in s.obs.values()]) for s in steps])

    environment = wb.envs.dmc(task)
    once = episode(3)
    assert (episode(4) != once).any()
    np.testing.assert_array_equal(episode(3), once)
    fresh = suite.load(*task.split("_", 1), task_kwargs={"random": 3})
    moment, rows = fresh.reset(), []
    for action in [None, *np.float32(actions(environment)).astype(np.float64)]:
        for _ in range(2 if action is not None else 0):
            moment = fresh.step(action)
        rows.append(np.concatenate([np.ravel(v) for v in moment.observation.values()]))
    np.testing.assert_array_equal(np.float32(rows), once)


def test_a_vector_re_enacts_the_episode():
    vectors = [wb.envs.EnvVector([wb.envs.dmc("cartpole_swingup")], seed=s) for s in (1, 2)]
    for vector in vectors:
        vector.reset()
    for _ in range(30):
        rows = vectors[0].step(torch.rand(1, 1) * 2 - 1)
    again = vectors[1].load_state_dict(vectors[0].state_dict())
    for key, value in rows.obs.items():
        assert torch.equal(again.obs[key], value)
    assert not again.is_last.any()
    with pytest.raises(ValueError, match=r"it has none .*play the actions again"):
        wb.envs.dmc("cartpole_swingup").set_state(b"")


def test_pixels_after_an_environment_without(monkeypatch):
    """With MUJOCO_GL unset, dm_control has chosen a backend before pixels are requested."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    without = wb.envs.dmc("cartpole_swingup")
    without.reset(0)
    push(without, 0)
    assert "MUJOCO_GL" not in os.environ
    assert without._env.physics._contexts is None  # nothing was rendered

    def seen(**view):
        environment = wb.envs.dmc("cartpole_swingup", pixels=True, size=32, **view)
        assert environment.observation == {"image": Image(32, 32, 3)}
        first, last = environment.reset(0), push(environment, 1)
        environment.close()
        return first.obs["image"], last.obs["image"]

    try:
        first, last = seen()
    except RuntimeError as cause:
        pytest.skip(str(cause))
    assert (first.shape, first.dtype, first.std() > 10) == ((32, 32, 3), np.uint8, True)
    assert (first != last).any()
    other, _ = seen(camera="lookatcart", shadows=False)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("cartpole_swingupp", r"did you mean 'cartpole_swingup'\?"),
        ("walker-walk", r"did you mean 'walker_walk'\?"),
        ("zzz", "dm_control.suite.ALL_TASKS lists them"),
    ],
)
def test_an_unknown_task(task, hint):
    with pytest.raises(ValueError, match=f"unknown DeepMind Control task '{task}'; {hint}"):
        wb.envs.dmc(task)


def test_arguments():
    with pytest.raises(ValueError, match=r"wb.envs.dmc got repeat=0; it takes a whole number from"):
        wb.envs.dmc("cartpole_swingup", repeat=0)
    model = SimpleNamespace(ncam=2, id2name=lambda i, kind: ["fixed", "lookat"][i])
    for camera in (0, 1, -1, "lookat"):
        _check_camera(model, "cartpole_swingup", camera)
    for camera in (2, "side"):
        with pytest.raises(ValueError, match=r"it has the cameras \['fixed', 'lookat'\], 0 to 1,"):
            _check_camera(model, "cartpole_swingup", camera)


def test_a_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(ImportError) as error:
        wb.envs.dmc("cartpole_swingup")
    assert str(error.value) == ("wb.envs.dmc needs the extra 'dmc': pip install -e \".[dmc]\"")


@pytest.mark.parametrize(
    ("egl", "osmesa", "chosen"),
    [(True, True, "egl"), (False, True, "osmesa"), (True, False, "egl")],
)
def test_the_backend_that_works(monkeypatch, egl, osmesa, chosen):
    machine(monkeypatch, egl, osmesa)
    rendering.choose_backend("a test")
    assert os.environ["MUJOCO_GL"] == chosen


def machine(monkeypatch, egl, osmesa, **environ):
    monkeypatch.setattr(rendering, "_egl_works", lambda: egl)
    monkeypatch.setattr(rendering, "_osmesa_is_there", lambda: osmesa)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "dm_control._render", raising=False)
    monkeypatch.setattr(os, "environ", environ)


def test_no_backend(monkeypatch):
    machine(monkeypatch, False, False)
    wanted = (
        r"dmc\('cartpole_swingup', pixels=True\) needs OpenGL, but this machine has neither EGL "
        r"nor OSMesa .* `apt-get install libegl1 libgl1-mesa-dri` or `apt-get install libosmesa6`"
    )
    with pytest.raises(RuntimeError, match=wanted):
        wb.envs.dmc("cartpole_swingup", pixels=True)
    machine(monkeypatch, False, False, DISPLAY=":0")
    rendering.choose_backend("a test")
    assert "MUJOCO_GL" not in os.environ  # dm_control will open a window


def test_the_backend_that_is_asked_for(monkeypatch):
    for asked in ("egl", "glfw", "OSMesa", "EGL", " Egl ", "GLFW", "on"):
        machine(monkeypatch, True, True, MUJOCO_GL=asked, DISPLAY=":0")
        rendering.choose_backend("a test")
        known = {"on": "glfw"}.get(asked, asked.strip().lower())  # dm_control takes small letters
        assert os.environ == {"MUJOCO_GL": known, "DISPLAY": ":0"}
    for asked in ("glfw", "off"):  # nothing is rendered
        machine(monkeypatch, False, False, MUJOCO_GL=asked)
        rendering.choose_backend("a test", renders=False)
    machine(monkeypatch, True, False, MUJOCO_GL="osmesa")
    with pytest.raises(RuntimeError, match=r"MUJOCO_GL=osmesa, which .* install libosmesa6` adds"):
        wb.envs.dmc("cartpole_swingup")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("glfw", "MUJOCO_GL=glfw, which opens a window, and .* no display; without MUJOCO_GL, EGL"),
        ("GLFW", "no display; without MUJOCO_GL, EGL and OSMesa are tried, which need none"),
        ("egl", "MUJOCO_GL=egl, which does not work .* install libegl1 libgl1-mesa-dri` adds it"),
        ("OSMESA", "MUJOCO_GL=osmesa, which does not work .* `apt-get install libosmesa6` adds it"),
        ("Disabled", "which MUJOCO_GL=Disabled turns off; without MUJOCO_GL, EGL and OSMesa are"),
        ("vulkan", "found MUJOCO_GL='vulkan'; it takes egl, osmesa or glfw, or disabled where"),
    ],
)
def test_a_backend_that_cannot_render_names_the_remedy(monkeypatch, asked, message):
    machine(monkeypatch, False, False, MUJOCO_GL=asked)
    with pytest.raises(RuntimeError, match=message):
        wb.envs.dmc("cartpole_swingup", pixels=True)


def test_dm_controls_own_choice_is_replaced(monkeypatch):
    reloaded = []
    monkeypatch.setattr(rendering.importlib, "reload", reloaded.append)
    for chosen, times in (("egl", 0), ("glfw", 1)):
        machine(monkeypatch, True, True)
        renderer = SimpleNamespace(BACKEND=chosen)
        monkeypatch.setitem(sys.modules, "dm_control._render", renderer)
        rendering.choose_backend("a test")
        assert reloaded == [renderer] * times
