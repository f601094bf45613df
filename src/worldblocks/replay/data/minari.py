"""Episodes of Minari data sets."""

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from worldblocks._install import install
from worldblocks.replay.batch import Batch
from worldblocks.replay.data.arrays import channels_first, episode_from_numpy
from worldblocks.spaces import Continuous, Discrete

UNBOUNDED = 1e9  # a larger bound stands for none, as in `wb.envs.gym`


def read_minari(name: str) -> Iterator[Batch]:
    """The episodes of a Minari data set on this machine; nothing is downloaded.

    Keys and actions are those of `wb.envs.gym`: parts of dicts and tuples are joined by "/", a
    single observation is `image` or `vector`, a single action `action`, classes count from 0, and
    bounded numbers of an action are scaled from their bounds to [-1, 1]. What is neither a number
    nor a class, such as text, is left out with a warning.

    Args:
        name: such as `D4RL/pointmaze/open-v2`, as `minari list local` shows it.

    Raises:
        ImportError: Minari is not installed.
        FileNotFoundError: the data set is not on this machine.
        ValueError: nothing in its observations or actions is a number or a class, or
            `episode_from_numpy` refuses an episode. Names the episode.

    Source: Younis et al. 2024, minari.farama.org.
    """
    try:
        minari = importlib.import_module("minari")
    except ImportError as error:
        raise ImportError(
            f"wb.replay.read_minari needs the extra 'minari': {install('minari')}"
        ) from error
    try:
        data = minari.load_dataset(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no Minari data set {name!r} on this machine: `minari list local` shows those that "
            f"are here, `minari download {name}` gets it"
        ) from error
    return _episodes(name, data)


def _episodes(name: str, data: Any) -> Iterator[Batch]:
    for index, episode in enumerate(data.iterate_episodes()):
        seen, out = _parts(data.observation_space, episode.observations)
        chosen, more = _parts(data.action_space, episode.actions, action=True)
        if not seen or not chosen or more:
            raise ValueError(
                f"the Minari data set {name!r} has observations {data.observation_space} and "
                f"actions {data.action_space}; read_minari takes Box, Discrete, MultiDiscrete and "
                f"MultiBinary, and Dict and Tuple of those"
            )
        if out and not index:
            warnings.warn(
                f"read_minari leaves out the observations {', '.join(out)} of {name!r}: they are "
                f"neither numbers nor classes",
                stacklevel=2,
            )
        try:
            yield episode_from_numpy(
                {key: value for key, (_, value) in seen.items()},
                {key: value for key, (_, value) in chosen.items()},
                episode.rewards,
                episode.terminations,
                episode.truncations,
                actions={key: space for key, (space, _) in chosen.items()},
            )
        except ValueError as error:
            raise ValueError(f"episode {index} of {name!r}: {error}") from error


Parts = dict[str, tuple[Continuous | Discrete, ndarray]]


def _parts(space: Any, value: Any, *, action: bool = False) -> tuple[Parts, list[str]]:
    """Arrays by key with their spaces, and the keys of what is left out."""
    found: Parts = {}
    out: list[str] = []
    for key, leaf, part in _leaves(space, value, ()):
        parts = _converted(leaf, np.asarray(part), action)
        image = not action and _is_image(leaf)
        name = key or ("action" if action else "image" if image else "vector")
        found |= {name + suffix: each for suffix, each in parts.items()}
        out += [] if parts else [repr(name)]
    return found, out


def _leaves(space: Any, value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any, Any]]:
    """The key, the space and the value of everything in dicts and tuples."""
    spaces = getattr(space, "spaces", None)
    if spaces is None:
        yield "/".join(path), space, value
        return
    for key, part in spaces.items() if isinstance(value, dict) else enumerate(spaces):
        yield from _leaves(part, value[key], (*path, str(key)))


def _converted(space: Any, value: ndarray, action: bool) -> Parts:
    """The parts of a leaf by suffix of its key; none if it is neither a number nor a class."""
    kind = type(space).__name__
    shape = tuple(space.shape or ())
    if kind == "Discrete":
        return {"": (Discrete(int(space.n)), value - int(space.start))}
    if kind in ("MultiDiscrete", "MultiBinary"):
        counts = np.broadcast_to(getattr(space, "nvec", 2), shape)
        classes = value.astype(np.int64) - getattr(space, "start", 0)
        if counts.min() == counts.max():
            return {"": (Discrete(int(counts.flat[0]), shape), classes)}
        return {
            "".join(f"/{i}" for i in at): (Discrete(int(counts[at])), classes[(slice(None), *at)])
            for at in np.ndindex(shape)
        }
    if kind != "Box" or 0 in shape:
        return {}
    if action:
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        middle, reach = (high + low) / 2, np.where(high > low, (high - low) / 2, 1.0)
        value = (value.astype(np.float64) - middle) / reach
    elif _is_image(space):
        first = len(shape) == 3 and channels_first(shape)
        value = value.transpose(0, 2, 3, 1) if first else value
    else:
        value = value.astype(np.float32)
    return {"": (Continuous(shape), value)}


def _is_image(space: Any) -> bool:
    return space.dtype == np.uint8 and len(space.shape) in (2, 3) and hasattr(space, "low")
