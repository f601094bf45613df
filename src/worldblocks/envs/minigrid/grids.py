"""MiniGrid and BabyAI levels, unmodified, with features of their goals."""

import difflib
from typing import Any

import numpy as np

from worldblocks.envs.errors import extra, no_episode, no_state, unknown
from worldblocks.envs.features import Featured
from worldblocks.envs.gym.conversion import actions
from worldblocks.envs.minigrid.babyai_text import MiniGridText
from worldblocks.envs.named import suite
from worldblocks.envs.record import Environment, Step
from worldblocks.spaces import Actions, Discrete, Spaces

_TRIES = 2000  # episodes drawn to find the mission
_LAYERS = {"object": 11, "color": 6, "state": 3}


@suite
def minigrid(
    level: str, *, mission: str | None = None, features: bool = True, words: Any = None, **kwargs
) -> Environment:
    """A level of MiniGrid or BabyAI as an `Environment`, with `feat/<name>` keys (see `Featured`).

    The agent observes the 7 by 7 fields in front of it (`object`, `color`, `state`, as classes) and
    the `direction` that it faces. The mission is not observed; it is `describer.mission`. Rewards
    and ends of episodes are those of the level.

    Args:
        level: its id, such as `BabyAI-GoToLocalS5N2-v0`.
        mission: draw episodes until one has this mission ("a" and "the" are equivalent), so that a
            run has one task although the level has many.
        features: whether to add the features.
        words: a dict of arguments of `MiniGridText`, such as `{"verbs": ["go to"]}`.
        **kwargs: for `gymnasium.make`.

    Raises:
        ImportError: minigrid is missing.
        ValueError: an unknown level, or a mission that it does not have.
    """
    with extra("minigrid"):
        import gymnasium
        import minigrid  # noqa: F401
    known = [name for name in gymnasium.registry if name.startswith(("MiniGrid-", "BabyAI-"))]
    if level not in known:
        raise unknown("MiniGrid level", level, known, "minigrid's documentation lists them")
    made = gymnasium.make(level, disable_env_checker=True, **kwargs)
    env = MiniGrid(made, mission)
    return Featured(env, MiniGridText(made, **(words or {}))) if features else env


class MiniGrid:
    """A MiniGrid level as an `Environment`; built by `minigrid`, which explains the arguments."""

    def __init__(self, env: Any, mission: str | None) -> None:
        self._env, self._mission, self._over = env, mission, True
        size = env.observation_space["image"].shape[:2]
        layers = {key: Discrete(classes, size) for key, classes in _LAYERS.items()}
        self.observation: Spaces = {**layers, "direction": Discrete(4)}
        self.action: Actions
        self.action, self._build = actions(env.action_space)

    def reset(self, seed: int) -> Step:
        """Begin the first episode drawn from `seed` that has the mission."""
        obs, _ = self._env.reset(seed=seed)
        seen = set()
        for _ in range(_TRIES):
            if self._mission is None or _plain(self._mission) == _plain(obs["mission"]):
                break
            seen.add(obs["mission"])
            obs, _ = self._env.reset()  # goes on with the same random numbers
        else:
            close = difflib.get_close_matches(str(self._mission), seen, 3, 0.0)
            raise ValueError(
                f"no episode of {_TRIES} had the mission {self._mission!r}; {self._env.spec.id} "
                f"has, for example, {', '.join(map(repr, close))}"
            )
        self._over = False
        return Step(_observation(obs), 0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do the action."""
        if self._over:
            raise no_episode(self._env)
        obs, reward, terminated, truncated, _ = self._env.step(self._build(action))
        self._over = bool(terminated or truncated)
        return Step(_observation(obs), float(reward), False, self._over, bool(terminated))

    def get_state(self) -> None:
        """None: a vector plays the episode again instead."""

    def set_state(self, state: bytes) -> None:
        """Raises: there is no state."""
        raise no_state(self._env)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _observation(obs: dict[str, Any]) -> dict[str, np.ndarray]:
    layers = {key: obs["image"][..., i].astype(np.int64) for i, key in enumerate(_LAYERS)}
    return {**layers, "direction": np.asarray(obs["direction"], np.int64)}


def _plain(mission: str) -> str:
    """A mission without its articles."""
    return " ".join(word for word in mission.lower().split() if word not in ("a", "an", "the"))
