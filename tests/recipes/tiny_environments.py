"""Gymnasium environments for runs of a recipe, named `tiny_environments:Name`."""

import contextlib
import os
import signal
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

ACTIONS = {
    "box": spaces.Box(np.float32([-2, 0]), np.float32([2, 1])),
    "discrete": spaces.Discrete(3, start=1),
    "equal": spaces.MultiDiscrete([4, 4]),
    "unequal": spaces.MultiDiscrete([2, 5]),
}


class Diary(gymnasium.Env):
    """Observations contain the action that led to them, so that any row of a replay can be checked.

    `did` is the box of the action, `when` the step, `who` is drawn at the reset. The reward is the
    sum of the other two actions. An episode is terminal or reaches a time limit at step `length`.

    `die` and `fail` are paths. At step 5 of an episode a process that finds no file `die` creates
    it and kills itself, and a process that finds a file `fail` raises.
    """

    action_space = spaces.Dict({name: ACTIONS[name] for name in ("box", "discrete", "unequal")})
    observation_space = spaces.Dict(
        {
            "did": spaces.Box(-2, 2, (2,)),
            "picture": spaces.Box(0, 255, (12, 9, 3), np.uint8),
            "when": spaces.Discrete(16),
            "who": spaces.Box(0, 1, ()),
        }
    )

    def __init__(self, length=7, die="", fail=""):
        self.length, self.die, self.fail = length, Path(die), Path(fail)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.when, self.who = 0, np.float32(self.np_random.uniform())
        return self.row(np.zeros(2, np.float32)), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.when += 1
        if self.when == 5:
            self.break_down()
        over, alive = self.when == self.length, self.who < 0.5
        reward = float(action["discrete"]) + float(action["unequal"].sum())
        return self.row(action["box"]), reward, over and not alive, over and alive, {}

    def row(self, did):
        picture = np.full((12, 9, 3), 16 * self.when, np.uint8)
        return {"did": did, "picture": picture, "when": np.int64(self.when), "who": self.who}

    def break_down(self):
        if self.die.name:
            with contextlib.suppress(FileExistsError):  # two may do so at the same time
                self.die.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        if self.fail.name and self.fail.exists():
            raise RuntimeError("the wheel came off")


class Single(gymnasium.Env):
    """One action space, and a vector that counts the steps."""

    observation_space = spaces.Box(-1, 100, (3,))

    def __init__(self, action):
        self.action_space = ACTIONS[action]

    def reset(self, *, seed=None, options=None):
        self.when = 0
        return np.zeros(3, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.when += 1
        return np.full(3, self.when, np.float32), 1.0, False, self.when == 9, {}


class Cameras(gymnasium.Env):
    """Random observations of any space, in episodes of 25 steps.

    `shapes` are byte images by key, of shape [height, width, channel]; a single one without a key
    is a list. `most` is the largest value.
    """

    action_space = spaces.Discrete(2)

    def __init__(self, shapes, most=255):
        def box(shape):
            return spaces.Box(0, most, tuple(shape), np.uint8)

        parts = isinstance(shapes, dict)
        self.observation_space = (
            spaces.Dict({key: box(shape) for key, shape in shapes.items()})
            if parts
            else box(shapes)
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.time += 1
        return self.observation_space.sample(), 1.0, False, self.time == 25, {}
