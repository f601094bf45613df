"""Environments by name."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from worldblocks.envs.errors import unknown
from worldblocks.envs.record import Environment

SUITES: dict[str, Callable[..., Any]] = {}
EXAMPLE = "'atari:boxing', 'dmc:walker_walk', 'gym:CartPole-v1' or 'module:factory'"

F = TypeVar("F", bound=Callable[..., Any])


def suite(factory: F) -> F:
    """Register a factory as a suite, under its own name: `@suite` above its definition.

    Its first argument without a default is the name of an environment. A factory without one has a
    single environment and stands alone, as `crafter`.
    """
    SUITES[factory.__name__] = factory
    return factory


def make(name: str, *, trusted: bool = True, **options: Any) -> Environment:
    """An environment by name: `suite:name`, or `module:factory` for one of your own.

    The suites are `atari`, `dmc`, `dm_env`, `gym` and `minigrid`, and `crafter`, which has one
    environment and stands alone. A suite wins over a module of the same name.

    Args:
        name: such as `atari:boxing`, `dmc:walker_walk`, `gym:CartPole-v1`,
            `minigrid:BabyAI-GoToLocal-v0`, `crafter`, `package.module:factory`,
            `dm_env:package.module:factory`.
        trusted: whether the name may import a module. Give False for a name from a stranger.
        **options: arguments of the suite's function, or of the factory (see `gym`).

    Raises:
        ImportError: the extra of the suite is missing.
        ValueError: there is no such suite or environment, or the name is not trusted.
    """
    head, colon, rest = name.partition(":")
    if not trusted and (":" in rest or (rest and head not in SUITES)):
        raise ValueError(
            f"{name!r} would import a module, and the name is not trusted; the suites "
            f"{', '.join(sorted(SUITES))} need no trust"
        )
    if head in SUITES and bool(rest) == bool(colon) == _takes_a_name(SUITES[head]):
        return SUITES[head](*[rest] * bool(rest), **options)
    if head in SUITES or not rest:
        alone = " or ".join(repr(s) for s, make in SUITES.items() if not _takes_a_name(make))
        raise ValueError(f"{name!r} is not the name of an environment; write {alone}, {EXAMPLE}")
    package = head.partition(".")[0]
    known = package in sys.modules  # `__main__` has no spec
    if not known and (not package or importlib.util.find_spec(package) is None):
        raise unknown("suite or module", head, SUITES, f"write {EXAMPLE}")
    return SUITES["gym"](name, **options)


def _takes_a_name(factory: Callable[..., Any]) -> bool:
    first = next(iter(inspect.signature(factory).parameters.values()), None)
    return first is not None and first.default is first.empty and first.kind <= first.VAR_POSITIONAL


def import_place(suite: str, name: str, place: str) -> ModuleType:
    """The module `place` of the name `place:factory`, which was given to `suite`.

    Raises:
        ImportError: there is no such module.
    """
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as cause:
        if cause.name is None or not f"{place}.".startswith(f"{cause.name}."):
            raise  # the module exists, but a module that it imports does not
        raise ImportError(
            f"{suite} was asked for {name!r}, but there is no module {cause.name!r}; it is "
            f"searched as by `import {place}` (export PYTHONPATH=.:$PYTHONPATH adds the folder you "
            f"are in)"
        ) from cause
