"""What a gymnasium environment has and returns, looked at before it is used."""

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from worldblocks.envs.errors import as_array, described

_RESET = "reset() returns (observation, info)"
_STEP = "step() returns (observation, reward, terminated, truncated, info)"
_FOUR = "; `done` of the older gym is terminated at an end, truncated at a time limit"


def space_of(env: Any, name: str) -> Any:
    """The space `observation_space` or `action_space` of an environment.

    Raises:
        ValueError: there is none, or it is not a space of gymnasium.
    """
    import gymnasium

    space = getattr(env, name, None)
    if not isinstance(space, gymnasium.Space):
        kind = f"{type(space).__module__}.{type(space).__name__}"
        given = "is missing" if space is None else f"is {described(space)}, a {kind}"
        raise ValueError(
            f"wb.envs.gym got {env}, whose {name} {given}; set it in __init__ to a space of "
            f"gymnasium: self.{name} = gymnasium.spaces.Box(-np.inf, np.inf, (3,)), for example"
        )
    return space


def check_single(env: Any) -> None:
    """Raise unless an environment is a single one whose `reset` takes a seed."""
    import gymnasium

    count = getattr(env.unwrapped, "num_envs", 1)
    if count != 1:
        raise ValueError(
            f"wb.envs.gym got {env}, which is {count} environments in one (num_envs); it takes a "
            f"single one: build it with num_envs=1, or write a vector of your own (see 'A vector "
            f"of your own' in docs/blocks/envs.md)"
        )
    needed, layer = ["seed"], env
    while layer is not None:
        try:
            takes = inspect.signature(layer.reset).parameters.values()
        except (TypeError, ValueError):  # a built-in has no signature
            return
        names = {one.name for one in takes if one.kind is not one.POSITIONAL_ONLY}
        missing = [name for name in needed if name not in names]
        if missing and not any(one.kind is one.VAR_KEYWORD for one in takes):
            raise ValueError(
                f"wb.envs.gym got {layer}, whose reset() takes no {' and no '.join(missing)}, so "
                f"its episodes cannot be repeated; write `def reset(self, *, seed=None, "
                f"options=None)` and begin it with `super().reset(seed=seed)`"
            )
        wraps = isinstance(layer, gymnasium.Wrapper)
        if wraps and type(layer).__module__.startswith("gymnasium."):
            needed = ["seed", "options"]
        else:
            needed = ["seed"]
        layer = layer.env if wraps else None


def begin(env: Any, seed: int) -> Any:
    """Reset an environment; returns the observation.

    Raises:
        ValueError: the environment returned something else than gymnasium's two values.
    """
    result = _call(env, _RESET, lambda: env.reset(seed=seed))
    pair = isinstance(result, tuple | list) and len(result) == 2
    if not pair or not _is_info(result[1]):
        raise ValueError(
            f"{env} gave {_listed(result)} at a reset; {_RESET}: `return observation, {{}}`"
        )
    return result[0]


def proceed(env: Any, action: Any) -> tuple[Any, float, bool, bool]:
    """Step an environment; returns observation, reward, terminated and truncated.

    A reward and a flag may be arrays of one element; 0 and 1 are flags too.

    Raises:
        ValueError: the environment returned something else than gymnasium's five values.
    """
    result = _call(env, _STEP, lambda: env.step(action))
    if not isinstance(result, tuple | list) or len(result) != 5:
        four = isinstance(result, tuple | list) and len(result) == 4
        hint = _FOUR if four else ""
        raise ValueError(f"{env} gave {_listed(result)} at a step; {_STEP}{hint}")
    obs, reward, terminated, truncated, info = result
    flags = _flag(env, "terminated", terminated), _flag(env, "truncated", truncated)
    if not _is_info(info):
        raise ValueError(f"{env} gave the info {described(info)}, which is a dict; {_STEP}")
    return obs, _number(env, reward), *flags


def frame(env: Any) -> np.ndarray:
    """The rendered frame of an environment, `height width 3` uint8, copied.

    Raises:
        ValueError: there is no such frame.
    """
    given = env.render()
    asked = f"asked {env} for pixels, and its render() gave {described(given)}; pixels=True needs"
    if not isinstance(given, np.ndarray) or given.ndim != 3 or given.shape[2] != 3:
        remedy = "return the picture with render_mode='rgb_array', and open no window for it"
        if isinstance(given, np.ndarray) and given.ndim == 3 and given.shape[2] == 4:
            remedy = "return frame[..., :3]"
        raise ValueError(f"{asked} `height width 3` of bytes: {remedy}")
    if given.dtype != np.uint8:
        unit = given.dtype.kind == "f" and given.size and given.min() >= 0 and given.max() <= 1
        cast = "(255 * frame).astype(np.uint8)" if unit else "frame.astype(np.uint8)"
        if given.dtype.kind not in "iu" or given.min() < 0 or given.max() > 255:
            raise ValueError(f"{asked} bytes of 0 … 255: return {cast}")
    return np.array(given, np.uint8, order="C")


def _call(env: Any, returns: str, call: Callable[[], Any]) -> Any:
    """Call an environment; a wrapper of gymnasium that cannot unpack its values says which."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        module = "" if place is None else place.tb_frame.f_globals.get("__name__", "")
        if "unpack" in str(error) and module.startswith("gymnasium."):
            raise ValueError(
                f"{env} gave {module} other values than it takes ({error}); {returns}"
                f"{_FOUR if 'expected 5, got 4' in str(error) else ''}"
            ) from error
        raise


def _is_info(info: Any) -> bool:
    return info is None or isinstance(info, Mapping)


def _listed(result: Any) -> str:
    if not isinstance(result, tuple | list):
        return described(result)
    return f"{len(result)} values ({', '.join(map(described, result))})"


def _flag(env: Any, name: str, value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    array = as_array(value)
    if (
        array is None
        or array.size != 1
        or array.dtype.kind not in "biuf"
        or array.item() not in (0, 1)
    ):
        raise ValueError(
            f"{env} gave {name} as {described(value)}; it is True or False, of one agent in one "
            f"environment; {_STEP}"
        )
    return bool(array.item())


def _number(env: Any, reward: Any) -> float:
    if not isinstance(reward, Real):
        array = as_array(reward)
        if array is None or array.size != 1 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{env} gave the reward {described(reward)}; it is one number, of one agent in "
                f"one environment; {_STEP}"
            )
        reward = array.item()
    try:
        number = float(reward)
    except OverflowError:  # an int beyond the floats
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{env} gave the reward {number}; a reward is finite")
    return number
