"""The dependence of frames on the actions is found if there is one, and only then."""

import numpy as np
import pytest

import worldblocks as wb
from benchmarks.learning import predictable
from worldblocks.testing.worlds.base import World


@pytest.fixture(autouse=True)
def _shorter(monkeypatch):
    monkeypatch.setattr(predictable, "UPDATES", 300)


class Paddle(World):
    """A bar that the actions move left and right, or that goes round by itself (`deaf`)."""

    def __init__(self, deaf):
        self.deaf, self._at = deaf, 0
        super().__init__({"image": wb.spaces.Image(8, 8, 1)}, {"move": wb.spaces.Discrete(2)})

    def _begin(self):
        self._at = 0

    def _observe(self):
        image = np.zeros((8, 8, 1), np.uint8)
        image[:, self._at] = 255
        return {"image": image}

    def _act(self, action):
        to_and_fro = min(max(self._at + 2 * int(action) - 1, 0), 7)
        self._at = (self._at + 1) % 8 if self.deaf else to_and_fro
        return 0.0, False, False


def test_a_picture_that_the_actions_move():
    moved = predictable.measure(lambda: Paddle(deaf=False), steps=600)
    assert moved.error < 0.7 * moved.mean_frame
    assert moved.worse > 5


def test_a_picture_that_moves_by_itself():
    deaf = predictable.measure(lambda: Paddle(deaf=True), steps=600)
    assert deaf.error < 0.1 * deaf.mean_frame
    assert deaf.worse < 5
