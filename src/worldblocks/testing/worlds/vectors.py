"""Known-answer environments with vector observations.

The seed of a reset determines all randomness of its episode.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from worldblocks import envs
from worldblocks.envs import Environment, Step
from worldblocks.spaces import Continuous, Discrete
from worldblocks.testing.worlds.base import World, arm, whole


class Bandit(World):
    """A multi-armed bandit: observations are constant.

    Arm `best` pays 1, the others 0, at each of the `steps` actions of an episode.

    With the defaults: optimum 4, random 1, needed 3.4.
    """

    def __init__(self, *, arms: int = 4, best: int = 2, steps: int = 4) -> None:
        self.arms, self.steps = whole("Bandit", "arms", arms, 2), whole("Bandit", "steps", steps, 1)
        self.best = arm("Bandit", best, arms)
        super().__init__({"nothing": Continuous((1,))}, {"arm": Discrete(self.arms)})

    def _observe(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1, np.float32)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        over = self._time + 1 == self.steps
        return float(action == self.best), over, over


class Delayed(World):
    """A bandit with a delayed reward: 1 in the last row if the action at row 0 was `best`.

    The last row is `delay` rows after row 0; actions in between have no effect. The number of the
    row is observed, the arm is not.

    With the defaults: optimum 1, random 0.33, needed 0.85.
    """

    def __init__(self, *, delay: int = 3, arms: int = 3, best: int = 1) -> None:
        self.delay = whole("Delayed", "delay", delay, 1)
        self.arms = whole("Delayed", "arms", arms, 2)
        self.best = arm("Delayed", best, arms)
        super().__init__({"row": Discrete(self.delay + 1)}, {"arm": Discrete(self.arms)})

    def _begin(self) -> None:
        self._right = False

    def _observe(self) -> dict[str, np.ndarray]:
        return {"row": np.asarray(self._time)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        if self._time == 0:
            self._right = bool(action == self.best)
        over = self._time + 1 == self.delay
        return float(over and self._right), over, over


class First(World):
    """Press a button in the first row only; observations are constant.

    Action 1 in row 0 is worth 1, and so is action 0 in any other row. After each action the episode
    ends with probability `stop`, so that only `is_first` shows where one begins.

    With the defaults: optimum 2, random 1, needed 1.7. An agent whose memory is never reset has 1:
    half the rows are a row 0, and it cannot recognise them.
    """

    def __init__(self, *, stop: float = 0.5) -> None:
        if not 0 < stop < 1:
            raise ValueError(f"First got stop={stop}; it takes a probability between 0 and 1")
        self.stop = stop
        super().__init__({"nothing": Continuous((1,))}, {"press": Discrete(2)})

    def _observe(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1, np.float32)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        over = bool(self._random.random() < self.stop)
        return float(action == (self._time == 0)), over, over


class Memory(World):
    """Remember the observation of row 0.

    In row 0 the light is on with probability 0.5; in all other rows it is off. An action is worth 1
    if it equals the light of row 0, in every row. The episode ends after `steps` actions.

    With the defaults: optimum 3, random 1.5, needed 2.6. An agent without memory has 2: it sees the
    light in row 0 alone.
    """

    def __init__(self, *, steps: int = 3) -> None:
        self.steps = whole("Memory", "steps", steps, 2)
        super().__init__({"light": Discrete(2)}, {"answer": Discrete(2)})

    def _begin(self) -> None:
        self._light = int(self._random.integers(2))

    def _observe(self) -> dict[str, np.ndarray]:
        return {"light": np.asarray(self._light if self._time == 0 else 0)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        over = self._time + 1 == self.steps
        return float(action == self._light), over, over


class Target(World):
    """Match a number: reward 1 - |action - target|, with a new target in each row.

    The target is 0 or `reach` with equal probability, which is observed. The action is clipped to
    [-1, 1]. A time limit cuts the episode after `steps` actions.

    With the defaults: optimum 4, random 1.36, needed 3.0. The best constant action has 2.4.
    """

    def __init__(self, *, steps: int = 4, reach: float = 0.8) -> None:
        if not 0 < reach <= 1:
            raise ValueError(f"Target got reach={reach}; it takes a number above 0 and at most 1")
        self.steps, self.reach = whole("Target", "steps", steps, 1), reach
        super().__init__({"far": Discrete(2)}, {"number": Continuous((1,))})

    def _begin(self) -> None:
        self._far = int(self._random.integers(2))

    def _observe(self) -> dict[str, np.ndarray]:
        return {"far": np.asarray(self._far)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        reward = 1.0 - abs(float(np.clip(action[0], -1, 1)) - self._far * self.reach)
        self._far = int(self._random.integers(2))
        return reward, self._time + 1 == self.steps, False


class Scaled:
    """An environment with its rewards multiplied by `scale`.

    Args:
        environment: an `Environment`; or a callable that returns one, or a name for
            `worldblocks.envs.gym`, called with `options`.
        scale: factor of every reward, above 0. Divide scores by it to compare.

    Raises:
        ValueError: an invalid scale, or options for an environment that is already built.
    """

    def __init__(
        self,
        environment: Environment | Callable[..., Environment] | str,
        *,
        scale: float,
        **options: Any,
    ) -> None:
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"Scaled got scale={scale}; it takes a finite number above 0")
        if isinstance(environment, str):
            environment = envs.gym(environment, **options)
        elif callable(environment):
            environment = environment(**options)
        elif options:
            raise ValueError(
                f"Scaled got the options {options} for an environment that is already built; pass "
                f"a class, a function or a name to use them"
            )
        self.environment, self.scale = environment, scale
        self.observation, self.action = environment.observation, environment.action

    def reset(self, seed: int) -> Step:
        """Begin the episode of this seed."""
        return self._scaled(self.environment.reset(seed))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do an action."""
        return self._scaled(self.environment.step(action))

    def _scaled(self, step: Step) -> Step:
        return step._replace(reward=step.reward * self.scale)

    def get_state(self) -> bytes | None:
        """The state of the environment."""
        return self.environment.get_state()

    def set_state(self, state: bytes) -> None:
        """Continue from `get_state()`."""
        self.environment.set_state(state)

    def close(self) -> None:
        """Release the resources of the environment."""
        self.environment.close()
