"""Make the environment that an id, a name or a factory stands for."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

from worldblocks.envs.named import import_place

_ARGUMENTS = "give others by name (in a recipe: --env-args '{\"name\": 1}')"


def make_named(gymnasium: ModuleType, name: str, pixels: bool, kwargs: dict[str, Any]) -> Any:
    """Build an environment by name: `Id-v0`, `module:factory`, or gymnasium's `module:Id-v0`."""
    place, _, wanted = name.rpartition(":")
    if place:
        module = import_place("wb.envs.gym", name, place)
        try:
            factory = functools.reduce(getattr, wanted.split("."), module)
        except AttributeError:
            if wanted not in gymnasium.registry:
                raise ValueError(
                    f"wb.envs.gym was asked for {name!r}, but {place} defines no {wanted!r}, and "
                    f"no environment has that id after importing it; {_close(gymnasium, wanted)}"
                ) from None
        else:
            if not callable(factory):
                raise TypeError(
                    f"wb.envs.gym was asked for {name!r}, which is {factory!r}; it takes a "
                    f"function or class that makes an environment"
                )
            return call(factory, pixels, kwargs)
    if pixels:
        kwargs = {"render_mode": "rgb_array", **kwargs}
    try:
        return gymnasium.make(wanted, disable_env_checker=True, **kwargs)
    except TypeError as cause:
        if not re.search("unexpected keyword argument|required .* argument", str(cause)):
            raise
        raise ValueError(f"wb.envs.gym got {kwargs} for {name!r}: {cause}; {_ARGUMENTS}") from cause
    except gymnasium.error.Error as cause:
        if wanted in gymnasium.registry:
            raise  # the id is known, but a dependency is missing
        raise ValueError(
            f"unknown gymnasium environment {name!r}; {_close(gymnasium, wanted)}"
        ) from cause


def call(factory: Callable[..., Any], pixels: bool, kwargs: dict[str, Any]) -> Any:
    """Call a factory; for pixels, pass `render_mode="rgb_array"` if it takes that argument."""
    if pixels:
        takes = inspect.signature(factory).parameters.values()
        if any(one.name == "render_mode" or one.kind is one.VAR_KEYWORD for one in takes):
            kwargs = {"render_mode": "rgb_array", **kwargs}
    return call_factory(factory, kwargs, "wb.envs.gym")


def call_factory(factory: Callable[..., Any], kwargs: dict[str, Any], asked: str) -> Any:
    """Call a factory.

    Raises:
        ValueError: it takes other arguments.
    """
    try:
        takes = inspect.signature(factory)
    except (TypeError, ValueError):  # a built-in has no signature
        return factory(**kwargs)
    try:
        takes.bind(**kwargs)
    except TypeError as cause:
        raise ValueError(
            f"{asked} got the arguments {kwargs} for {factory!r}, which takes {takes}: {cause}; "
            f"{_ARGUMENTS}"
        ) from cause
    return factory(**kwargs)


def _close(gymnasium: ModuleType, name: str) -> str:
    """A hint: registered ids that are similar to the name."""
    ids = {known.lower(): known for known in gymnasium.registry}
    close = difflib.get_close_matches(name.lower(), ids, 3, 0.6)
    if close:
        return f"did you mean {' or '.join(repr(ids[one]) for one in close)}?"
    return "an id that a package registers is written 'package:Id'"
