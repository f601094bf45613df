"""A world whose pictures depend on the actions: a square that is where the last action put it."""

import numpy as np

from worldblocks.envs import Step
from worldblocks.spaces import Discrete, Image

SIDE, SQUARE, EPISODE = 48, 20, 300
PLACES = ((14, 14), (2, 2), (2, 26), (26, 2), (26, 26))


class SquareWorld:
    """Reward 1 in the middle. With `obeys=False` a random place is taken instead of the action."""

    def __init__(self, *, obeys: bool) -> None:
        self.observation = {"image": Image(SIDE, SIDE, 1)}
        self.action = {"place": Discrete(len(PLACES))}
        self.obeys = obeys

    def reset(self, seed: int) -> Step:
        self.random = np.random.default_rng(seed)
        self.time = 0
        return self._step(int(self.random.integers(1, len(PLACES))), is_first=True)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        self.time += 1
        place = int(action["place"]) if self.obeys else int(self.random.integers(len(PLACES)))
        return self._step(place, is_first=False)

    def _step(self, place: int, *, is_first: bool) -> Step:
        image = np.zeros((SIDE, SIDE, 1), np.uint8)
        row, column = PLACES[place]
        image[row : row + SQUARE, column : column + SQUARE] = 255
        return Step({"image": image}, float(place == 0), is_first, self.time == EPISODE, False)

    def get_state(self) -> None:
        return None

    def set_state(self, state: bytes) -> None:
        raise AssertionError("it has none")

    def close(self) -> None:
        pass
