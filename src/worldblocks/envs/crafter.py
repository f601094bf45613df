"""Crafter: survival in an open world, with one image and 17 actions."""

from typing import Any

import numpy as np

from worldblocks.envs.errors import at_least_one, extra, no_episode, no_state
from worldblocks.envs.named import suite
from worldblocks.envs.record import Step
from worldblocks.spaces import Actions, Discrete, Image, Spaces


@suite
def crafter(
    *, size: int = 64, reward: bool = True, length: int = 10_000, area: int = 64
) -> "Crafter":
    """Crafter as an `Environment`: observation `image`, action `action`.

    Args:
        size: height and width of the image.
        reward: give the reward of the game (achievements, health) instead of 0.
        length: time limit in steps; only death is terminal.
        area: height and width of the world. A reset makes a new world, which takes seconds.

    Raises:
        ImportError: crafter is missing.
        ValueError: a number out of range.

    Source: Hafner 2022, "Benchmarking the Spectrum of Agent Capabilities"; crafter 1.8.3.
    """
    at_least_one("wb.envs.crafter", size=size, length=length, area=area)
    with extra("crafter"):
        import crafter as theirs

    class Ordered(theirs.Env):
        """Crafter picks a creature to remove from a set, whose order depends on memory addresses.
        Sorted by creation, the seed determines the episode in any process.
        """

        def _balance_chunk(self, chunk: Any, objs: Any) -> None:
            places = self._world._obj_map
            super()._balance_chunk(chunk, sorted(objs, key=lambda one: places[tuple(one.pos)]))

    return Crafter(Ordered((area, area), size=(size, size), reward=reward, length=length, seed=0))


class Crafter:
    """A Crafter world as an `Environment`; built by `crafter`, which explains the arguments.

    There is no saved state: `get_state()` is None, and a vector plays the episode again.
    """

    def __init__(self, env: Any) -> None:
        self._env, self._over = env, True
        height, width, channel = env.observation_space.shape
        self.observation: Spaces = {"image": Image(int(height), int(width), channel)}
        self.action: Actions = {"action": Discrete(env.action_space.n)}

    def reset(self, seed: int) -> Step:
        """Make a new world from `seed`."""
        self._env._seed, self._env._episode = seed, 0  # they determine its next world
        image = self._env.reset()
        self._over = False
        return Step({"image": np.ascontiguousarray(image)}, 0.0, True, False, False)

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do `action["action"]`, an index below 17."""
        if self._over:
            raise no_episode("crafter")
        image, reward, self._over, info = self._env.step(int(action["action"]))
        obs = {"image": np.ascontiguousarray(image)}
        return Step(obs, float(reward), False, bool(self._over), info["discount"] == 0)

    def get_state(self) -> None:
        """None: a vector plays the episode again instead."""

    def set_state(self, state: bytes) -> None:
        """Raises: there is no state."""
        raise no_state("crafter")

    def close(self) -> None:
        """Nothing to do."""
