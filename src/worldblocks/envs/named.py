"""Environments by name."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from worldblocks.envs.atari.ale import atari
from worldblocks.envs.crafter import crafter
from worldblocks.envs.dmc.control import dmc
from worldblocks.envs.errors import unknown
from worldblocks.envs.gym.gymnasium import gym
from worldblocks.envs.minigrid.grids import minigrid
from worldblocks.envs.record import Environment

SUITES: dict[str, Callable[..., Environment]] = {
    "atari": atari,
    "crafter": crafter,
    "dmc": dmc,
    "gym": gym,
    "minigrid": minigrid,
}
EXAMPLE = "'atari:boxing', 'dmc:walker_walk', 'gym:CartPole-v1' or 'module:factory'"


def make(name: str, *, trusted: bool = True, **options: Any) -> Environment:
    """An environment by name: `suite:name`, or `module:factory` for one of your own.

    The suites are `atari`, `crafter`, `dmc`, `gym` and `minigrid`; `crafter` has one environment
    and stands alone. A suite wins over a module of the same name.

    Args:
        name: such as `atari:boxing`, `dmc:walker_walk`, `gym:CartPole-v1`,
            `minigrid:BabyAI-GoToLocal-v0`, `crafter`, `package.module:factory`.
        trusted: whether the name may import a module. Give False for a name from a stranger.
        **options: arguments of the suite's function, or of the factory (see `gym`).

    Raises:
        ImportError: the extra of the suite is missing.
        ValueError: there is no such suite or environment, or the name is not trusted.
    """
    suite, _, rest = name.partition(":")
    if not trusted and (":" in rest or (rest and suite not in SUITES)):
        raise ValueError(
            f"{name!r} would import a module, and the name is not trusted; the suites "
            f"{', '.join(SUITES)} need no trust"
        )
    if name == "crafter":
        return crafter(**options)
    if suite == "crafter" or not rest:
        raise ValueError(f"{name!r} is not the name of an environment; write 'crafter', {EXAMPLE}")
    if suite in SUITES:
        return SUITES[suite](rest, **options)
    package = suite.partition(".")[0]
    known = package in sys.modules  # `__main__` has no spec
    if not known and (not package or importlib.util.find_spec(package) is None):
        raise unknown("suite or module", suite, SUITES, f"write {EXAMPLE}")
    return gym(name, **options)
