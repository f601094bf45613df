"""Observations of a gymnasium environment, looked at before they are cast."""

import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from worldblocks.envs.errors import OutsideSpace, as_array, described


class Leaf:
    """One part of an observation space, which checks the values of that part.

    Each value is checked for dtype and shape, and classes for their range. A value that cannot be
    what the space says is an error. With `look`, a `Box` is also checked for its bounds; values
    outside reach the agent as they are, with one warning.

    Args:
        where: the environment, as the messages name it.
        path: the keys that lead to this part.
        space: its gymnasium space.
    """

    def __init__(self, where: str, path: tuple, space: Any) -> None:
        self._where, self._space, self._shape = where, space, tuple(space.shape)
        self._name = f"the observation {joined(path)!r}" if path else "the observation"
        self._whole = np.dtype(space.dtype).kind in "iu"
        self._bounds: tuple[np.ndarray, np.ndarray] | None = None
        if hasattr(space, "bounded_below"):
            low = np.where(space.bounded_below, space.low, -np.inf).astype(np.float32)
            high = np.where(space.bounded_above, space.high, np.inf).astype(np.float32)
            widest = (0, 255) if space.dtype == np.uint8 else (-np.inf, np.inf)
            if (low > widest[0]).any() or (high < widest[1]).any():
                self._bounds = low, high

    def image(self, value: Any, look: bool) -> np.ndarray:
        """The bytes of an image; integers of other dtypes must lie in 0 … 255."""
        array = self._array(value)
        if array.dtype != np.uint8 and array.dtype != np.bool_:
            if array.dtype.kind == "f":
                unit = array.min() >= 0 and array.max() <= 1
                cast = "(255 * obs).astype(np.uint8)" if unit else "obs.astype(np.uint8)"
                raise self._error(value, f"bytes are whole numbers: return {cast}")
            if array.min() < 0 or array.max() > 255:
                raise self._error(value, "a byte is 0 … 255: scale the image to that")
        if look and self._bounds is not None:
            self._look(array)
        return array

    def brightness(self, value: Any, low: float, high: float) -> np.ndarray:
        """The bytes of an image whose black is `low` and whose white is `high`."""
        array = self._array(value)
        share = (array.astype(np.float32) - low) / (high - low)
        if not (share.min() >= -1e-3 and share.max() <= 1 + 1e-3):  # or NaN
            raise self._error(
                value, f"{low:g} is black and {high:g} white: scale the image to that"
            )
        return np.rint(255 * share.clip(0, 1)).astype(np.uint8)

    def classes(
        self,
        value: Any,
        part: Any,
        start: np.ndarray,
        count: int,
        remedy: str = "declare the classes that there are",
    ) -> np.ndarray:
        """The classes at the index `part`, counted from 0, int64.

        They must be whole numbers in `start` … `start + count - 1`; `remedy` ends the message of a
        class outside.
        """
        array = self._array(value)[part]
        if array.dtype.kind == "f" and not (np.rint(array) == array).all():
            raise self._error(value, "classes are whole numbers: round it, or declare a Box")
        if ((array < start) | (array >= start + count)).any():
            raise self._error(value, f"a class is outside the {count} classes: {remedy}")
        return np.asarray(array.astype(np.int64) - start, np.int64)

    def numbers(self, value: Any, look: bool) -> np.ndarray:
        """A float32 copy."""
        array = self._array(value)
        if look:
            if self._whole and array.dtype.kind == "f" and not (np.rint(array) == array).all():
                raise self._error(
                    value, "a number is not whole: declare dtype=np.float32, or return integers"
                )
            if self._bounds is not None:
                self._look(array)
        with np.errstate(over="ignore"):  # infinity is refused with every other one
            return np.array(array, np.float32)  # a copy: environments reuse their buffers

    def _array(self, value: Any) -> np.ndarray:
        """The value as an array of numbers, in the shape of the space."""
        array = as_array(value)
        if array is None or array.dtype.kind not in "biuf":
            lost = "return the observation" if value is None else "return an array of numbers"
            raise self._error(value, lost)
        if array.shape != self._shape:
            if array.size != 1 or math.prod(self._shape) != 1:
                raise self._error(value, _other_shape(array.shape, self._shape))
            array = array.reshape(self._shape)
        return array

    def _look(self, array: np.ndarray) -> None:
        assert self._bounds is not None
        low, high = self._bounds
        with np.errstate(over="ignore"):
            outside = (array.astype(np.float32) < low) | (array.astype(np.float32) > high)
        if outside.any():
            self._bounds = None  # one warning is enough
            warnings.warn(
                f"{self._where} gave {self._name} as {described(array)}, and "
                f"{array[outside].flat[0]} is outside its space {self._space}; the agent gets it "
                f"as it is: give the space the bounds that hold, or -np.inf and np.inf",
                OutsideSpace,
                stacklevel=7,
            )

    def _error(self, value: Any, remedy: str) -> ValueError:
        return ValueError(
            f"{self._where} gave {self._name} as {described(value)}; its space is {self._space}: "
            f"{remedy}"
        )


def check_parts(where: str, space: Any, value: Any, paths: Iterable[tuple]) -> list[str]:
    """Raise unless the value of a `Dict` or `Tuple` has all parts; returns the keys that it adds.

    Args:
        where: the environment, as the message names it.
        space: the whole observation space.
        value: an observation.
        paths: the keys that lead to each part that is read.
    """
    extra = set()
    for path in paths:
        part, kind = value, space
        for depth, key in enumerate(path):
            named = hasattr(kind.spaces, "keys")
            length = len(kind.spaces)
            if hasattr(part, "keys") if named else isinstance(part, tuple | list | np.ndarray):
                there = set(part.keys()) if named else set(range(len(part)))
            else:
                what = "a dict with the keys" if named else f"a tuple of {length} with the numbers"
                raise ValueError(
                    f"{where} gave the observation {joined(path[:depth])!r} as {described(part)}; "
                    f"its space {kind} is {what} {_keys(kind.spaces)}"
                )
            if key not in there:
                raise ValueError(
                    f"{where} gave an observation without {joined(path[: depth + 1])!r}, only "
                    f"{sorted(map(str, there))}; its space {kind} has it: return every key of "
                    f"the space in every row, or take it out of the space"
                )
            known = set(kind.spaces) if named else set(range(length))
            extra |= {joined((*path[:depth], one)) for one in there - known}
            part, kind = part[key], kind.spaces[key]
    return sorted(extra)


def joined(path: tuple) -> str:
    """The keys of a nested part, joined by "/"."""
    return "/".join(map(str, path))


def _keys(spaces: Any) -> list:
    return sorted(map(str, spaces)) if hasattr(spaces, "keys") else list(range(len(spaces)))


def _other_shape(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if given[1:] == wanted:
        what = "obs[0]" if given[0] == 1 else "the observation of one environment"
        return f"a batch of {given[0]} was given: return {what}"
    if [n for n in given if n != 1] == [n for n in wanted if n != 1]:
        return f"return obs.reshape{wanted}"
    if sorted(given) == sorted(wanted):
        return "its axes are in another order: transpose it, or declare the shape that is given"
    return f"return the shape {list(wanted)}, or declare a space of shape {list(given)}"
