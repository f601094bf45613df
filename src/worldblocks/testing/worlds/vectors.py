"""Small environments whose best and whose random score are known; observations are vectors.

None of them needs a simulator. All randomness of an episode comes from the seed of its reset.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from worldblocks import envs
from worldblocks.envs import Environment, Step
from worldblocks.spaces import Actions, Continuous, Discrete, Spaces
from worldblocks.testing.worlds.base import World, arm, whole


class Bandit(World):
    """Pull an arm, get its reward, again and again: nothing to see, nothing to remember.

    Arm `best` pays 1, the others nothing, at each of the `steps` actions of an episode.

    With the defaults: optimum 4, random 1, to be reached 3.4.
    """

    def __init__(self, *, arms: int = 4, best: int = 2, steps: int = 4) -> None:
        self.arms, self.steps = whole("Bandit", "arms", arms, 2), whole("Bandit", "steps", steps, 1)
        self.best = arm("Bandit", best, arms)
        super().__init__({"nothing": Continuous((1,))}, {"arm": Discrete(self.arms)})

    def _begin(self) -> None:
        pass

    def _observe(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1, np.float32)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        over = self._time + 1 == self.steps
        return float(action == self.best), over, over


class Delayed(World):
    """The action at row 0 decides the reward of the last row, `delay` rows after it.

    1 for arm `best`, else 0. What is done in between changes nothing. The row is observed, the
    arm is not.

    With the defaults: optimum 1, random 0.33, to be reached 0.85.
    """

    def __init__(self, *, delay: int = 3, arms: int = 3, best: int = 1) -> None:
        self.delay, self.arms = (
            whole("Delayed", "delay", delay, 1),
            whole("Delayed", "arms", arms, 2),
        )
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
    """Press the button in row 0 and never again; there is nothing to see.

    Action 1 in row 0 is worth 1, and action 0 in any other row. After each action the episode ends
    with probability `stop`, so that nothing but `is_first` tells when one begins.

    With the defaults: optimum 2, random 1, to be reached 1.7. Whose memory is never reset has 1:
    half the rows are a row 0, and it cannot tell which.
    """

    def __init__(self, *, stop: float = 0.5) -> None:
        if not 0 < stop < 1:
            raise ValueError(f"First got stop={stop}; it takes a probability between 0 and 1")
        self.stop = stop
        super().__init__({"nothing": Continuous((1,))}, {"press": Discrete(2)})

    def _begin(self) -> None:
        pass

    def _observe(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(1, np.float32)}

    def _act(self, action: np.ndarray) -> tuple[float, bool, bool]:
        over = bool(self._random.random() < self.stop)
        return float(action == (self._time == 0)), over, over


class Memory(World):
    """Was the light on in row 0? Asked in every row, in the dark.

    In row 0 the light is on or off, like a coin; in all other rows it is off. An action is worth 1
    if it is 1 and the light was on, or 0 and it was not. The episode ends after `steps` actions.

    With the defaults: optimum 3, random 1.5, to be reached 2.6. Who remembers nothing has 2: the
    light is seen in row 0 alone.
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
    """Hit a number: reward 1 - |action - target|, a new target in each row.

    The target is 0 or `reach`, like a coin, and which one is shown; the action is clipped to
    [-1, 1]. An episode is cut after `steps` actions: a time limit, not an end.

    With the defaults: optimum 4, random 1.36, to be reached 3.0. The best single number has 2.4.
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
    """An environment whose rewards are multiplied by `scale`; all else is as it was.

    Args:
        environment: an `Environment`; or a callable that gives one, or a name for
            `worldblocks.envs.gym`, built with `options`.
        scale: factor of every reward, above 0. Divide a score by it to compare.

    Raises:
        ValueError: another scale, or options for an environment that is built already.
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
                f"Scaled got the options {options} for an environment that is built already; they "
                f"go with a class, a function or a name"
            )
        self.environment, self.scale = environment, scale

    @property
    def observation(self) -> Spaces:
        """What an observation is made of."""
        return self.environment.observation

    @property
    def action(self) -> Actions:
        """What an action is made of."""
        return self.environment.action

    def reset(self, seed: int) -> Step:
        """Begin the episode of this seed."""
        return self._scaled(self.environment.reset(seed))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do an action; its reward is scaled."""
        return self._scaled(self.environment.step(action))

    def _scaled(self, step: Step) -> Step:
        return step._replace(reward=step.reward * self.scale)

    def get_state(self) -> bytes | None:
        """The state of what is scaled."""
        return self.environment.get_state()

    def set_state(self, state: bytes) -> None:
        """Continue from `get_state()`."""
        self.environment.set_state(state)

    def close(self) -> None:
        """Release what the simulator holds."""
        self.environment.close()
