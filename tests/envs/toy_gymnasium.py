"""Gymnasium environments of any spaces, and factories of every kind."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from toy_environments import Walk


class Toy(gymnasium.Env):
    """Observes samples of its observation space; asserts that actions are in its action space.

    Step t gives reward t. `ends` is the step that terminates, `limit` the one that truncates.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(
        self, observation=None, action=None, *, ends=None, limit=8, frame=None, render_mode=None
    ):
        self.observation_space = Box(-1, 1, (2,)) if observation is None else observation
        self.action_space = Discrete(2) if action is None else action
        self.ends, self.limit, self.frame = ends, limit, frame
        self.render_mode = render_mode
        self.actions, self.seen, self.closed = [], [], False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time, self.actions, self.seen = 0, [], []
        return self.look(), {}

    def look(self):
        self.seen.append(self.observation_space.sample())
        return self.seen[-1]

    def step(self, action):
        assert self.action_space.contains(action), action
        self.actions.append(action)
        self.time += 1
        reward = np.float64(self.time)
        return self.look(), reward, self.time == self.ends, self.time == self.limit, {}

    def render(self):
        return np.full((6, 4, 3), self.time, np.uint8) if self.frame is None else self.frame

    def close(self):
        self.closed = True


class Nested:
    toy = Toy


def make(**kwargs):
    return Toy(**kwargs)


def ours():
    return Walk()


def nothing():
    return {"observation": 3}


number = 3
gymnasium.register("ToyOfTheTests-v0", entry_point=Toy)
