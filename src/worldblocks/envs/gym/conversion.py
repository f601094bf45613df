"""Convert gymnasium's spaces to `worldblocks.spaces`, and values in both directions."""

import functools
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from worldblocks.envs.errors import OutsideSpace
from worldblocks.envs.gym.images import check_asked, classes_of, pixels
from worldblocks.envs.gym.values import Leaf, check_parts, joined
from worldblocks.spaces import Actions, Continuous, Discrete, Grid, Image, Space, Spaces

_Observe = Callable[[Any, bool], np.ndarray]
_Build = Callable[[dict[str, np.ndarray]], Any]

_HUGE = 1e9  # a larger bound of an action stands for none, as the largest float or integer does


def observations(
    space: Any,
    size: int | None,
    where: str,
    grids: int | Mapping[str, int] = 0,
    float_images: bool = False,
) -> tuple[Spaces, Callable[[Any, bool], dict[str, np.ndarray]]]:
    """Convert a gymnasium observation space; also returns the function that converts its values.

    That function takes a value, and whether to look at its bounds and keys too.

    Args:
        space: the gymnasium space; `Dict` and `Tuple` are flattened, keys joined by "/".
        size: height and width of every image; None keeps those of the space.
        where: the environment, as messages about its values name it.
        grids, float_images: as for `gym`.

    Raises:
        ValueError: no part of the space is supported, or two parts get the same key.
    """
    spaces: dict[str, Space] = {}
    readers: list[tuple[str, tuple, _Observe]] = []
    left_out, floats = [], False
    for path, leaf in _leaves(space, ()):
        parts = _observed(leaf, path, where, size, grids, float_images)
        if parts is None:
            left_out.append(f"{joined(path)!r} ({leaf})")
        for suffix, (ours, reader) in (parts or {}).items():
            name = joined(path) or _single(ours)
            _add(spaces, name + suffix, ours)
            readers.append((name + suffix, path, reader))
            floats |= isinstance(ours, Image) and leaf.dtype != np.uint8
    check_asked(grids, float_images, spaces, floats)
    if left_out and spaces:
        warnings.warn(
            f"wb.envs.gym leaves out the observations {', '.join(left_out)}: it observes Box, "
            f"Discrete, MultiDiscrete and MultiBinary, and Dict and Tuple of those",
            stacklevel=4,
        )
    if not spaces:
        raise ValueError(
            f"wb.envs.gym got an environment with the observation space {space}; it observes Box "
            f"(uint8 of two or three axes is an image), Discrete, MultiDiscrete and MultiBinary, "
            f"and Dict and Tuple of those"
        )

    paths, warned = [path for _, path, _ in readers], False

    def observe(value: Any, look: bool) -> dict[str, np.ndarray]:
        nonlocal warned
        if look and not warned and (extra := check_parts(where, space, value, paths)):
            warned = True
            warnings.warn(
                f"{where} gave {extra}, which its space {space} lacks; the agent does not observe "
                f"them: add them to observation_space, or leave them out",
                OutsideSpace,
                stacklevel=5,
            )
        try:
            found = [functools.reduce(operator.getitem, path, value) for path in paths]
        except (KeyError, IndexError, TypeError):
            check_parts(where, space, value, paths)
            raise
        parts = zip(readers, found, strict=True)
        return {key: reader(part, look) for (key, _, reader), part in parts}

    return spaces, observe


def actions(space: Any) -> tuple[Actions, _Build]:
    """Convert a gymnasium action space; also returns the function that builds its actions.

    That function takes an array per key, as returned by `worldblocks.spaces.split_action`.

    Raises:
        ValueError: a part of the space is not supported, or two parts get the same key.
    """
    spaces: dict[str, Continuous | Discrete] = {}
    build = _builder(space, (), spaces)
    if not spaces:
        raise ValueError(f"wb.envs.gym got an environment without actions: {space}; it needs one")
    unbounded = [
        joined(path) or "action"
        for path, leaf in _leaves(space, ())
        if hasattr(leaf, "bounded_below") and not _bounded(leaf)[0].all()
    ]
    if unbounded:
        warnings.warn(
            f"the actions {unbounded} of this environment have no bounds below {_HUGE:.0e}: it "
            f"gets the agent's numbers in [-1, 1] unchanged; gymnasium.wrappers.TransformAction "
            f"changes them",
            stacklevel=4,
        )
    return spaces, build


def _leaves(space: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    from gymnasium import spaces as theirs

    if isinstance(space, theirs.Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(space, theirs.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, (*path, index))
    else:
        yield path, space


def _add(spaces: dict, key: str, space: Space) -> None:
    if key in spaces:
        raise ValueError(
            f"wb.envs.gym got an environment with two parts called {key!r} after nested keys are "
            f"joined by '/'; give one of them another name"
        )
    spaces[key] = space


def _single(space: Space) -> str:
    """The key of an observation that has none."""
    return "image" if isinstance(space, Image | Grid) else "vector"


def _observed(
    space: Any,
    path: tuple,
    where: str,
    size: int | None,
    grids: int | Mapping[str, int],
    float_images: bool,
) -> dict[str, tuple[Space, _Observe]] | None:
    """The spaces and readers of a leaf, by suffix of its key; None if it is not supported."""
    from gymnasium import spaces as theirs

    if isinstance(space, theirs.Discrete | theirs.MultiDiscrete | theirs.MultiBinary):
        leaf = Leaf(where, path, space)
        return {
            suffix: (ours, _class_reader(leaf, part, start, ours.classes))
            for suffix, (ours, part, start) in _grouped(space).items()
        }
    if not isinstance(space, theirs.Box) or 0 in space.shape:
        return None
    leaf, key = Leaf(where, path, space), joined(path) or "image"
    found = pixels(space, leaf, key, size, classes_of(grids, key), float_images)
    if found is None and len(space.shape) > 2:  # replay stores numbers of two axes at most
        found = Continuous((space.low.size,)), lambda value, look: leaf.numbers(value, look).ravel()
    return {"": found or (Continuous(space.shape), leaf.numbers)}


def _class_reader(leaf: Leaf, part: Any, start: np.ndarray, classes: int) -> _Observe:
    return lambda value, look: leaf.classes(value, part, start, classes)


def _grouped(space: Any) -> dict[str, tuple[Discrete, Any, np.ndarray]]:
    """Spaces of classes by suffix: (space, index in the array, first class).

    One entry if all elements have the same number of classes, else one for each element.
    """
    if hasattr(space, "start") and not hasattr(space, "nvec"):
        return {"": (Discrete(int(space.n)), ..., np.asarray(space.start, np.int64))}
    shape = tuple(int(n) for n in space.shape)
    counts = np.broadcast_to(getattr(space, "nvec", 2), shape)
    start = np.broadcast_to(getattr(space, "start", 0), shape).astype(np.int64)
    if counts.min() == counts.max():
        return {"": (Discrete(int(counts.flat[0]), shape), ..., start)}
    return {
        "".join(f"/{i}" for i in where): (Discrete(int(counts[where])), where, start[where])
        for where in np.ndindex(shape)
    }


def _builder(space: Any, path: tuple, found: dict[str, Continuous | Discrete]) -> _Build:
    """Add the parts of an action space to `found`; returns the function that builds its value."""
    from gymnasium import spaces as theirs

    if isinstance(space, theirs.Dict):
        parts = {k: _builder(part, (*path, k), found) for k, part in space.spaces.items()}
        return lambda action: {key: build(action) for key, build in parts.items()}
    if isinstance(space, theirs.Tuple):
        builds = [_builder(part, (*path, i), found) for i, part in enumerate(space.spaces)]
        return lambda action: tuple(build(action) for build in builds)
    key = "/".join(map(str, path)) or "action"
    if isinstance(space, theirs.Discrete):
        _add(found, key, Discrete(int(space.n)))
        return lambda action: space.dtype.type(int(action[key]) + int(space.start))
    if isinstance(space, theirs.MultiDiscrete | theirs.MultiBinary):
        return _indices_builder(space, key, found)
    if isinstance(space, theirs.Box) and 0 not in space.shape:
        _add(found, key, Continuous(space.shape))
        return _box_builder(space, key)
    raise ValueError(
        f"wb.envs.gym got an environment whose action {key!r} is {space}; it takes Discrete, "
        f"MultiDiscrete, MultiBinary and Box, and Dict and Tuple of those"
    )


def _indices_builder(space: Any, key: str, found: dict[str, Continuous | Discrete]) -> _Build:
    groups = _grouped(space)
    for suffix, (ours, _, _) in groups.items():
        _add(found, key + suffix, ours)

    def build(action: dict[str, np.ndarray]) -> np.ndarray:
        value = np.empty(space.shape, space.dtype)
        for suffix, (_, where, start) in groups.items():
            value[where] = action[key + suffix] + start
        return value

    return build


def _box_builder(space: Any, key: str) -> _Build:
    """Scale [-1, 1] to the bounds; an element without bounds gets the number unchanged."""
    below, above = _bounded(space)
    if (below != above).any():
        raise ValueError(
            f"wb.envs.gym got an environment whose action {key!r} is {space}, bounded on one side "
            f"only; it takes bounds on both sides or on none, and {_HUGE:.0e} is none: give the "
            f"space its other bound"
        )
    if np.dtype(space.dtype).kind in "iu" and not below.all():
        raise ValueError(
            f"wb.envs.gym got an environment whose action {key!r} is {space}, whole numbers "
            f"without bounds; the agent chooses between bounds below {_HUGE:.0e}: give the space "
            f"its own, or declare a Discrete"
        )
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    low, high = np.where(below, low, -1.0), np.where(below, high, 1.0)
    whole = np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_

    def build(action: dict[str, np.ndarray]) -> np.ndarray:
        share = (np.clip(action[key], -1.0, 1.0).astype(np.float64) + 1) / 2
        value = low * (1 - share) + high * share  # exactly `low` at -1 and `high` at 1
        value = np.asarray(np.rint(value) if whole else value, space.dtype)
        # Rounding to float32 may cross a bound, and NumPy turns arrays without axes into scalars.
        return np.asarray(np.clip(value, space.low, space.high), space.dtype)

    return build


def _bounded(space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Whether the elements of a `Box` have a bound below, and above."""
    low, high = np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)
    return space.bounded_below & (low > -_HUGE), space.bounded_above & (high < _HUGE)
