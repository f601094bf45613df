"""Two small bodies: one finger of two joints, and a leg of other sizes."""

import numpy as np

from worldblocks.envs import Step
from worldblocks.spaces import Continuous, Discrete


class Body:
    """Counts its steps; the score of an episode is the sum of its actions' first numbers."""

    def __init__(self, size, limit=4, features=False):
        self.limit, self.t = limit, 0
        self.observation = {"joints": Continuous((size,)), "time": Continuous()}
        if features:
            self.observation["feat/time"] = Continuous((1,))
        self.action = {"push": Continuous((size,))}

    def _row(self, reward, first=False):
        size = self.observation["joints"].shape[0]
        obs = {"joints": np.full(size, self.t, np.float32), "time": np.float32(self.t)}
        if "feat/time" in self.observation:
            obs["feat/time"] = np.full(1, self.t, np.float32)
        obs = {key: np.asarray(value) for key, value in obs.items()}
        return Step(obs, reward, first, self.t == self.limit, False)

    def reset(self, seed):
        self.t = 0
        return self._row(0.0, first=True)

    def step(self, action):
        self.t += 1
        return self._row(float(action["push"][0]))

    def get_state(self):
        return bytes([self.t])

    def set_state(self, state):
        [self.t] = state

    def close(self):
        self.closed = True


class Buttons(Body):
    """A body with buttons, and a picture of nothing known."""

    def __init__(self):
        super().__init__(3)
        self.action = {"button": Discrete(4)}
        self.observation = {"joints": Continuous((3,)), "kind": Discrete(2)}

    def _row(self, reward, first=False):
        obs = {"joints": np.full(3, self.t, np.float32), "kind": np.array(1)}
        return Step(obs, reward, first, self.t == self.limit, False)

    def step(self, action):
        self.t += 1
        return self._row(float(action["button"]))


def make(task):
    """`finger`, `leg` or `buttons`."""
    return {"finger": lambda: Body(2, features=True), "leg": lambda: Body(5), "buttons": Buttons}[
        task
    ]()
