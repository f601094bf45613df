"""A `worldblocks` environment as a `gymnasium.Env`, for algorithms that need one."""

from typing import Any

import gymnasium
import numpy as np

import worldblocks as wb


class GymBridge(gymnasium.Env):
    """One image or one flat vector as observation, one `Discrete` or `Box` as action.

    A single image stays an image. Otherwise the observations, sorted by key, are concatenated into
    one float32 vector, with discrete ones as their index. `is_terminal` becomes `terminated`, any
    other end `truncated`.
    """

    def __init__(self, environment: wb.envs.Environment) -> None:
        """Args: environment: its action has one key, a discrete scalar or continuous."""
        self.inner = environment
        observation, action = dict(environment.observation), dict(environment.action)
        images = [key for key, space in observation.items() if isinstance(space, wb.spaces.Image)]
        several = any(isinstance(s, wb.spaces.Discrete) and s.shape for s in action.values())
        if (images and len(observation) > 1) or len(action) != 1 or several:
            raise ValueError(
                f"GymBridge was given observation {observation} and action {action}; it takes one "
                f"image or any vectors, and one action"
            )
        self.image = images[0] if images else ""
        self.keys = sorted(observation)
        self.observation_space = self._observation_space(observation)
        (self.key, space), *_ = action.items()
        if isinstance(space, wb.spaces.Discrete):
            self.action_space = gymnasium.spaces.Discrete(space.classes)
        else:
            self.action_space = gymnasium.spaces.Box(-1.0, 1.0, space.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        """Start an episode; without a seed, one is drawn from the generator of the last seed."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        return self._flat(self.inner.reset(drawn).obs), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Observation, reward, terminated, truncated, and an empty info."""
        step = self.inner.step({self.key: np.asarray(action)})
        cut = step.is_last and not step.is_terminal
        return self._flat(step.obs), step.reward, step.is_terminal, cut, {}

    def close(self) -> None:
        """Close the wrapped environment."""
        self.inner.close()

    def _observation_space(self, observation: dict[str, Any]) -> gymnasium.Space:
        if self.image:
            return gymnasium.spaces.Box(0, 255, observation[self.image].shape, np.uint8)
        size = sum(int(np.prod(space.shape)) for space in observation.values())
        return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _flat(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        if self.image:
            return obs[self.image]
        return np.concatenate([np.asarray(obs[key], np.float32).ravel() for key in self.keys])
