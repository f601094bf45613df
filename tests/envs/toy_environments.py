"""Small environments and a scripted emulator with numbers that can be worked out by hand."""

import json
import os
import signal
import time
from typing import ClassVar

import numpy as np

from worldblocks.envs import NotRestored, Step
from worldblocks.spaces import Continuous, Discrete, Image


class Walk:
    """A walk of `length` steps; the seed determines its start and noise.

    The reward is the move plus half of the second push, as given.
    """

    observation: ClassVar = {"place": Continuous((2,)), "image": Image(3, 5, 1)}
    action: ClassVar = {"move": Discrete(4), "push": Continuous((3,))}

    def __init__(self, length=4):
        self.length, self.seeds, self.closed = length, [], False

    def reset(self, seed):
        self.seeds.append(seed)
        self.rng, self.time = np.random.default_rng(seed), 0
        self.place = self.rng.normal(size=2).astype(np.float32)
        return self.row(0.0, first=True)

    def step(self, action):
        assert self.time < self.length, "stepped past the end"
        self.time += 1
        noise = self.rng.normal(size=2).astype(np.float32)
        self.place = self.place + noise + np.float32(action["move"]) + action["push"][:2]
        return self.row(float(action["move"]) + 0.5 * float(action["push"][1]))

    def row(self, reward, first=False):
        image = np.full((3, 5, 1), self.time, np.uint8)
        last = self.time >= self.length
        return Step({"place": self.place, "image": image}, reward, first, last, False)

    def get_state(self):
        return None

    def set_state(self, state):
        raise AssertionError("this environment has no state")

    def close(self):
        self.closed = True


class Drift(Walk):
    """Not determined by its seed: each instance starts elsewhere."""

    instances = 0

    def __init__(self, length=4):
        super().__init__(length)
        Drift.instances += 1
        self.offset = np.float32(Drift.instances)

    def reset(self, seed):
        step = super().reset(seed)
        self.place = self.place + self.offset
        return step._replace(obs={**step.obs, "place": self.place})


class Saved(Walk):
    """Its state is the number of its steps; it refuses the state `b"lost"`."""

    def __init__(self, length=4):
        super().__init__(length)
        self.time, self.place = 0, np.zeros(2, np.float32)

    def reset(self, seed):
        self.time = 0
        return self.row(0.0, first=True)

    def step(self, action):
        self.time += 1
        return self.row(1.0)

    def get_state(self):
        return bytes([self.time])

    def set_state(self, state):
        if state == b"lost":
            raise NotRestored("another version")
        self.time = state[0]


class Script:
    """An emulator that shows the number of its frame and ends at chosen frames.

    `ends`: frames since the last reset at which the game is over, one entry a game.
    """

    game = "script"
    screen = (6, 4)
    legal_actions: ClassVar = list(range(18))
    minimal_actions: ClassVar = [0, 1, 3, 4]

    def __init__(self, ends=()):
        self.ends, self.done, self.resets, self.frame, self.acts = list(ends), False, 0, 0, []

    def reset(self):
        self.end = self.ends.pop(0) if self.ends else None
        self.resets += 1
        self.frame, self.done = 0, False

    def act(self, code):
        assert not self.done
        self.frame += 1
        self.acts.append(code)
        self.done = self.frame == self.end
        return 10 + code

    def over(self):
        return self.done

    def screen_into(self, frame):
        frame[:] = self.frame % 256


class Faulty:
    """Fails on demand: a file `2-step-kill` in its folder kills it in a step, once.

    Its observation is the seed of the episode, the time, and the first push that led there; it has
    a state if `saved`.
    """

    observation: ClassVar = {"place": Continuous((3,))}
    action: ClassVar = {"push": Continuous((2,))}

    def __init__(self, folder, saved=False):
        self.folder, self.saved, self.sick = folder, saved, False
        self.meet("__init__")

    def meet(self, method):
        found = sorted(self.folder.glob(f"*-{method}-*"))
        if not found:
            return
        try:
            found[0].unlink()
        except FileNotFoundError:  # another environment was quicker
            return
        fault = found[0].name.split("-")[2]
        if fault == "raise":
            raise ValueError(f"a joint broke in {method}")
        if fault == "hang":
            time.sleep(60)
        if fault == "exit":
            os._exit(3)
        self.sick = fault == "nan"
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def reset(self, seed):
        self.seed, self.time, self.pushed = seed % 10_000, 0, 0.0
        self.meet("reset")
        return self.row(0.0, first=True)

    def step(self, action):
        self.meet("step")
        self.time += 1
        self.pushed = action["push"][0]
        return self.row(float("nan") if self.sick else float(self.time))

    def row(self, reward, first=False):
        place = np.array([self.seed, self.time, self.pushed], np.float32)
        return Step({"place": place}, reward, first, self.time == 7, False)

    def get_state(self):
        self.meet("get_state")
        return (
            json.dumps([self.seed, self.time, float(self.pushed)]).encode() if self.saved else None
        )

    def set_state(self, state):
        self.meet("set_state")
        self.seed, self.time, self.pushed = json.loads(state)

    def close(self):
        self.meet("close")
