"""A world with vectors and optional images: a point that is where the last action put it."""

import numpy as np

from worldblocks.envs import Step
from worldblocks.spaces import Continuous, Discrete, Image

PLACES = np.array([(0.0, 0.0), (1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)], np.float32)
SIDE = 48


class PointWorld:
    """The reward is the horizontal position. Episodes terminate after `episode` steps.

    With `picture` there are five actions, one per place, and an image of the point. Without it, the
    action is the position itself.
    """

    def __init__(self, *, picture: bool, episode: int = 30) -> None:
        self.picture, self.episode = picture, episode
        self.observation = {"point": Continuous((2,)), "far": Continuous(), "side": Discrete(3)}
        self.action = {"arm": Continuous((2,))}
        if picture:
            self.observation["image"] = Image(SIDE, SIDE, 1)
            self.action = {"place": Discrete(len(PLACES))}

    def reset(self, seed: int) -> Step:
        self.time = 0
        return self._step(PLACES[0], is_first=True)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        self.time += 1
        place = PLACES[int(action["place"])] if self.picture else action["arm"].clip(-1, 1)
        return self._step(place, is_first=False)

    def _step(self, place: np.ndarray, *, is_first: bool) -> Step:
        over = self.time == self.episode
        obs = {
            "point": place.astype(np.float32),
            "far": np.float32(np.linalg.norm(place)).reshape(()),
            "side": np.int64(np.sign(place[0]) + 1).reshape(()),
        }
        if self.picture:
            row, column = (18 + 15 * place).astype(int)
            image = np.zeros((SIDE, SIDE, 1), np.uint8)
            image[row : row + 12, column : column + 12] = 255
            obs["image"] = image
        return Step(obs, 0.0 if is_first else float(place[0]), is_first, over, over)

    def get_state(self) -> None:
        return None

    def set_state(self, state: bytes) -> None:
        raise AssertionError("it has none")

    def close(self) -> None:
        pass
