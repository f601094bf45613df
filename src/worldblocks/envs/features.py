"""Named features of an environment: targets of predictions, and the terms of rewards.

Features are numbers from the simulator (a height, whether a door was opened). In an observation
they have the keys `feat/<name>`. They must not reach an encoder, because the agent could not
observe them itself; `split_features` takes them out.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from worldblocks.envs.errors import no_state
from worldblocks.envs.record import Environment, Step
from worldblocks.spaces import Actions, Continuous, Spaces

PREFIX = "feat/"
Value = TypeVar("Value")


class Feature(NamedTuple):
    """The usual range of a feature, and whether it is always 0 or 1."""

    low: float
    high: float
    bit: bool = False


class Goal(NamedTuple):
    """A goal in words, and the feature that becomes 1 when it is achieved."""

    phrase: str
    feature: str


class Describer(Protocol):
    """Describes an environment in numbers and in English."""

    @property
    def ranges(self) -> Mapping[str, Feature]:
        """The features by name; they never change."""
        ...

    def features(self, is_first: bool) -> dict[str, float]:
        """The value of each feature at this row; call it exactly once for every row."""
        ...

    def describe(self) -> list[str]:
        """Sentences about the current observation."""
        ...

    def events(self) -> list[str]:
        """Sentences about what happened at the last row."""
        ...

    def candidates(self) -> list[Goal]:
        """The goals that can be achieved now."""
        ...

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of the environment, for people."""
        ...


class Featured:
    """An environment that also observes the features of its describer, as `feat/<name>`.

    Its other observations, its rewards and the ends of its episodes do not change.

    Args:
        env: any environment.
        describer: reads the simulator of `env`.
    """

    def __init__(self, env: Environment, describer: Describer) -> None:
        self._env, self.describer = env, describer
        self.action: Actions = env.action
        names = {PREFIX + name: Continuous() for name in describer.ranges}
        if taken := sorted(names.keys() & env.observation.keys()):
            raise ValueError(
                f"the environment already observes {taken}; give one without these features"
            )
        self.observation: Spaces = {**env.observation, **names}

    def reset(self, seed: int) -> Step:
        """Begin an episode, as the environment does."""
        return self._with(self._env.reset(seed))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do an action, as the environment does."""
        return self._with(self._env.step(action))

    def _with(self, step: Step) -> Step:
        values = self.describer.features(step.is_first)
        more = {PREFIX + name: np.asarray(value, np.float32) for name, value in values.items()}
        return step._replace(obs={**step.obs, **more})

    def get_state(self) -> None:
        """None: the describer's memory of the episode is restored by playing it again."""

    def set_state(self, state: bytes) -> None:
        """Raises: there is no state."""
        raise no_state(f"{self._env} with features")

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def split_features(by_key: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Split spaces or observations into inputs of an encoder and features by their bare names.

    >>> spaces = {"camera": Continuous((3,)), "feat/height": Continuous()}
    >>> observed, features = split_features(spaces)
    >>> list(observed), list(features)
    (['camera'], ['height'])
    """
    observed = {key: value for key, value in by_key.items() if not key.startswith(PREFIX)}
    features = {
        key.removeprefix(PREFIX): value for key, value in by_key.items() if key.startswith(PREFIX)
    }
    return observed, features
