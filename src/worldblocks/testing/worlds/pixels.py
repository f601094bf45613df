"""Known-answer environments with images: a falling ball, a room with a goal."""

import numpy as np

from worldblocks.spaces import Discrete, Image, Spaces
from worldblocks.testing.worlds.base import World, whole

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # row, column: up, down, left, right


class Catch(World):
    """Catch a falling ball with a paddle that moves left, stays or moves right.

    The ball starts in a random column of the top row and falls one cell per action. The paddle
    starts in the middle of the bottom row, which the ball reaches after `cells` - 1 actions. The
    last reward is 1 if they meet there, else -1; all others are 0. The image has one channel, with
    the ball and the paddle white.

    With the defaults: optimum 1, random -0.76, needed 0.6.

    Args:
        cells: rows and columns of the board.
        side: side of the image in pixels, a multiple of `cells`.
    """

    def __init__(self, *, cells: int = 8, side: int = 48) -> None:
        self.cells = whole("Catch", "cells", cells, 3)
        self.pixels = pixels("Catch", self.cells, side)
        super().__init__({"image": Image(side, side, 1)}, {"move": Discrete(3)})

    def _begin(self) -> None:
        self._ball, self._paddle = int(self._random.integers(self.cells)), self.cells // 2

    def _observe(self) -> dict[str, np.ndarray]:
        board = np.zeros((self.cells, self.cells), np.uint8)
        board[self._time, self._ball] = board[-1, self._paddle] = 255
        return {"image": draw(board, self.pixels)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        self._paddle = min(max(self._paddle + int(action) - 1, 0), self.cells - 1)
        over = self._time + 2 == self.cells
        caught = self._ball == self._paddle
        return (1.0 if caught else -1.0) if over else 0.0, over, over


class Grid(World):
    """Walk up, down, left or right to the goal of a square room.

    You and the goal start in two random cells. Reaching the goal gives 1 and ends the episode. A
    time limit cuts it after 2 (`cells` - 1) actions, enough for the longest way.

    With the defaults: optimum 1, random 0.2, needed 0.9.

    Args:
        cells: rows and columns of the room.
        side: side of the image in pixels, a multiple of `cells`, you white and the goal grey. With
            0 the observation is the coordinates `goal` and `you` (row, column) instead.
    """

    def __init__(self, *, cells: int = 4, side: int = 0) -> None:
        self.cells = whole("Grid", "cells", cells, 2)
        self.pixels = pixels("Grid", self.cells, side) if side else 0
        place = Discrete(self.cells, (2,))
        seen: Spaces = {"image": Image(side, side, 1)} if side else {"goal": place, "you": place}
        super().__init__(seen, {"move": Discrete(len(MOVES))})

    def _begin(self) -> None:
        you, goal = self._random.choice(self.cells**2, 2, replace=False)
        self._you, self._goal = (np.array(divmod(int(at), self.cells)) for at in (you, goal))

    def _observe(self) -> dict[str, np.ndarray]:
        if not self.pixels:
            return {"goal": self._goal.copy(), "you": self._you.copy()}
        board = np.zeros((self.cells, self.cells), np.uint8)
        board[tuple(self._goal)] = 127
        board[tuple(self._you)] = 255
        return {"image": draw(board, self.pixels)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        self._you = np.clip(self._you + MOVES[int(action)], 0, self.cells - 1)
        there = bool((self._you == self._goal).all())
        late = self._time + 1 == 2 * (self.cells - 1)
        return float(there), there or late, there


def pixels(name: str, cells: int, side: int) -> int:
    """Pixels of a cell's side; checks that they are a whole number."""
    if whole(name, "side", side, 1) % cells:
        raise ValueError(
            f"{name} got side={side} for {cells} cells; the side of its image is a multiple of "
            f"{cells}, such as {6 * cells}"
        )
    return side // cells


def draw(board: np.ndarray, pixels: int) -> np.ndarray:
    """The image `side side 1` of a board; each cell has `pixels` by `pixels`."""
    return board.repeat(pixels, 0).repeat(pixels, 1)[..., None]
