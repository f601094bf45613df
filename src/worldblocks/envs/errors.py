"""Errors that several environments raise in the same words."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np

from worldblocks._install import install


class OutsideSpace(UserWarning):
    """An observation is not in its space, and the agent gets it, or a part of it, all the same."""


def at_least_one(function: str, **values: int) -> None:
    """Raise unless all values are whole numbers of 1 or more; the message names the argument."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{function} got {name}={value!r}; it takes a whole number from 1 up")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Within this context, a missing module names the extra of the factory `name`."""
    try:
        yield
    except ModuleNotFoundError as cause:
        raise ImportError(f"wb.envs.{name} needs the extra '{name}': {install(name)}") from cause


def unknown(kind: str, name: str, known: Iterable[str], otherwise: str) -> ValueError:
    """`name` is not among `known`; suggests the closest, or `otherwise` if none is close."""
    plain = {one.lower().replace("-", "_"): one for one in known}
    close = difflib.get_close_matches(str(name).lower().replace("-", "_"), plain, 1, 0.5)
    hint = f"did you mean {plain[close[0]]!r}?" if close else otherwise
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def as_array(value: Any) -> np.ndarray | None:
    """A value as an array, or a tensor on any device; None if it is neither, nor numbers."""
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):  # such as lists of different lengths
        return None


def described(value: Any) -> str:
    """A value in a sentence: an array by dtype, shape and range, anything else by its text."""
    array = as_array(value) if hasattr(value, "dtype") and hasattr(value, "shape") else None
    if array is None:
        text = " ".join(repr(value).split())
        return text if len(text) <= 80 else f"{text[:60]}… ({type(value).__name__})"
    shown = f"{array.dtype}{list(array.shape)}"
    if array.size == 0 or array.dtype.kind not in "biuf":
        return shown
    low, high = array.min(), array.max()
    return f"{shown} of {low}" if array.size == 1 else f"{shown} from {low} to {high}"


def no_episode(environment: object) -> ValueError:
    """A step was asked for before a reset."""
    return ValueError(
        f"asked {environment} for a step, but no episode is under way; reset(seed) begins one"
    )


def no_state(environment: object) -> ValueError:
    """A state was given to an environment that has none."""
    return ValueError(
        f"asked {environment} to continue from a state; it has none (get_state() is None), so "
        f"reset(seed) and play the actions again"
    )
