"""The environments and settings of both sides, in NumPy alone, as either interpreter needs it."""

import math
from typing import Any

import numpy as np

Found = tuple[np.ndarray, float, bool, bool]  # observation, reward, terminated, truncated


class CartPole:
    """Barto, Sutton & Anderson's cart-pole, with the constants of gymnasium's CartPole-v1."""

    key, shape, dtype = "vector", (4,), np.float32
    classes = 2  # left, right

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode."""
        self.state = np.random.default_rng(seed).uniform(-0.05, 0.05, 4)
        self.steps = 0
        return self.state.astype(np.float32)

    def step(self, action: Any) -> Found:
        """Push for 0.02 s by the Euler method; the reward is 1."""
        _, speed, angle, spin = self.state
        cos, sin = math.cos(angle), math.sin(angle)
        push = ((10.0 if int(action) == 1 else -10.0) + 0.05 * spin * spin * sin) / 1.1
        turning = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        pace = push - 0.05 * turning * cos / 1.1
        self.state = self.state + 0.02 * np.array([speed, pace, spin, turning])
        self.steps += 1
        fallen = abs(self.state[0]) > 2.4 or abs(self.state[2]) > 12 * math.pi / 180
        over = bool(fallen), bool(self.steps >= 500 and not fallen)
        return self.state.astype(np.float32), 1.0, *over


class Pendulum:
    """A swing-up with a continuous torque, with the constants of gymnasium's Pendulum-v1.

    The action is the torque over 2, clipped to [-1, 1].
    """

    key, shape, dtype = "vector", (3,), np.float32
    classes = None  # one continuous action

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode at any angle, where 0 is upright."""
        self.angle, self.spin = np.random.default_rng(seed).uniform([-math.pi, -1], [math.pi, 1])
        self.steps = 0
        return self._seen()

    def step(self, action: Any) -> Found:
        """Turn for 0.05 s; the cost is that of the state before."""
        torque = 2 * float(np.clip(np.asarray(action).item(), -1, 1))
        angle = (self.angle + math.pi) % (2 * math.pi) - math.pi
        cost = angle**2 + 0.1 * self.spin**2 + 0.001 * torque**2
        spin = self.spin + 0.05 * (15 * math.sin(self.angle) + 3 * torque)
        self.spin = min(max(spin, -8.0), 8.0)
        self.angle += 0.05 * self.spin
        self.steps += 1
        return self._seen(), -cost, False, self.steps >= 200

    def _seen(self) -> np.ndarray:
        return np.array([math.cos(self.angle), math.sin(self.angle), self.spin], np.float32)


class Catch:
    """A ball falls through 8 rows; the paddle below moves left, stays or moves right.

    The reward is 1 or -1 when the ball arrives, and 0 before. 48 × 48 × 1 pixels, six a cell.
    """

    key, shape, dtype = "image", (48, 48, 1), np.uint8
    classes = 3

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode with the ball in any column and the paddle in column 4."""
        self.ball, self.paddle = int(np.random.default_rng(seed).integers(8)), 4
        self.steps = 0
        return self._seen()

    def step(self, action: Any) -> Found:
        """Move the paddle, then let the ball fall by a row."""
        self.paddle = min(max(self.paddle + int(action) - 1, 0), 7)
        self.steps += 1
        over = self.steps == 7
        reward = (1.0 if self.paddle == self.ball else -1.0) if over else 0.0
        return self._seen(), reward, over, False

    def _seen(self) -> np.ndarray:
        board = np.zeros((8, 8), np.uint8)
        board[self.steps, self.ball] = board[7, self.paddle] = 255
        return board.repeat(6, 0).repeat(6, 1)[..., None]


SIDES = ("official", "ours")
GAMES: dict[str, Any] = {"cartpole": CartPole, "catch": Catch, "pendulum": Pendulum}

# Names as in `Config` of recipes/dreamerv3_gym.py. An update follows every fourth step.
SHARED: dict[str, Any] = {"envs": 1, "batch": 8, "length": 16, "train_ratio": 32.0}
SHARED |= {"deter": 128, "groups": 8, "classes": 8, "depth": 4, "blocks": 8}
SHARED |= {"lam": 0.95, "warmup": 100, "agc": 0.3, "capacity": 200_000}
VECTOR: dict[str, Any] = {"units": 32, "hidden": 32, "horizon": 15, "lr": 1e-3, "slow_rate": 0.1}
VECTOR |= {"entropy": 1e-2}
PIXELS: dict[str, Any] = {"units": 64, "hidden": 64, "horizon": 8, "lr": 3e-3, "slow_rate": 0.02}
PIXELS |= {"entropy": 6e-2}
SETTINGS: dict[str, dict[str, Any]] = {
    "cartpole": {**SHARED, **VECTOR, "reconstruction": 100.0},
    "catch": {**SHARED, **PIXELS, "reconstruction": 4.0},
    "pendulum": {**SHARED, **VECTOR, "reconstruction": 10.0},
}


def episode_seed(seed: int, episode: int) -> int:
    """The seed of an episode; `wb.envs.EnvVector` derives it for its first environment alike."""
    return int(np.random.SeedSequence([seed, 0, episode]).generate_state(1)[0])
