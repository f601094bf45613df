"""Named features of an environment: targets of predictions and what rewards are written in.

They are numbers that the simulator knows (a height, whether a door was opened). In an observation
they stand under `feat/<name>`. An encoder must not get them: they would tell the agent what its
senses do not, and `split_features` takes them out.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from worldblocks.envs.record import Environment, Step
from worldblocks.spaces import Actions, Continuous, Spaces

PREFIX = "feat/"
Value = TypeVar("Value")


class Feature(NamedTuple):
    """The usual range of a feature, and whether it is only ever 0 or 1."""

    low: float
    high: float
    bit: bool = False


class Goal(NamedTuple):
    """Something that can be achieved: how it is said, and the feature that becomes 1 then."""

    phrase: str
    feature: str


class Describer(Protocol):
    """What an environment can say of itself, in numbers and in English."""

    @property
    def ranges(self) -> Mapping[str, Feature]:
        """The features by name, the same for the whole life of the environment."""
        ...

    def features(self, is_first: bool) -> dict[str, float]:
        """The value of each feature at this row; called once for every row."""
        ...

    def describe(self) -> list[str]:
        """Sentences about what is seen now."""
        ...

    def events(self) -> list[str]:
        """What became so with the last row."""
        ...

    def candidates(self) -> list[Goal]:
        """What can be achieved here."""
        ...

    def frame(self) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of it, for people."""
        ...


class Featured:
    """An environment whose observations also have its describer's features, as `feat/<name>`.

    The environment itself is untouched: what it observes, its rewards and its ends are the same.

    Args:
        env: any environment.
        describer: reads the same simulator.
    """

    def __init__(self, env: Environment, describer: Describer) -> None:
        self._env, self.describer = env, describer
        self.action: Actions = env.action
        names = {PREFIX + name: Continuous() for name in describer.ranges}
        if taken := sorted(names.keys() & env.observation.keys()):
            raise ValueError(
                f"the environment already observes {taken}; features are added to one that does "
                f"not have them"
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
        """None: what a describer remembers of an episode comes with playing it again."""

    def set_state(self, state: bytes) -> None:
        """Refused: there is no state that could be given."""
        raise ValueError(
            f"asked {self._env} with features to continue from a state; it has none "
            f"(get_state() is None), so reset(seed) and play the actions again"
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def split_features(by_key: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Spaces or observations in two: what an encoder gets, and the features by their bare names.

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
