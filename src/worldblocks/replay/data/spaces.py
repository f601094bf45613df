"""What recorded observations are."""

import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch

from worldblocks.replay.batch import Batch
from worldblocks.spaces import Continuous, Discrete, Grid, Image, Space, Spaces

FEW = 64
"""Bytes that all stay below this are probably classes."""


def observation_spaces(
    episodes: Iterable[Batch], *, grids: Mapping[str, int] = MappingProxyType({})
) -> Spaces:
    """What the observations of episodes are, read from their tensors.

    uint8 of three axes is an `Image`, floats are `Continuous`. Integers are `Discrete` with the
    largest class that occurs, so give all episodes. A nearly black image is probably a board: it
    gets a warning.

    Args:
        episodes: the episodes.
        grids: the numbers of classes of the uint8 arrays that are boards or maps, by key: each is a
            `Grid`.

    Raises:
        ValueError: there is no episode, or a grid is not uint8, has no such key or another class.

    >>> import numpy as np
    >>> from worldblocks.replay import episode_from_numpy
    >>> played = episode_from_numpy(np.array([0, 2]), np.zeros((1, 4)), [1.0], False)
    >>> observation_spaces([played])
    {'vector': Discrete(classes=3, shape=())}
    """
    spaces: dict[str, Space] = {}
    largest: dict[str, int] = {}
    for episode in episodes:
        for key, value in episode.obs.items():
            shape = tuple(value.shape[1:])
            if value.is_floating_point():
                spaces[key] = Continuous(shape)
                continue
            most = largest[key] = max(largest.get(key, 0), int(value.max()))
            if value.dtype != torch.uint8 or len(shape) != 3:
                spaces[key] = Discrete(most + 1, shape)
            elif key in grids:
                spaces[key] = Grid(*shape, grids[key])
            else:
                spaces[key] = Image(*shape)
    if not spaces:
        raise ValueError("observation_spaces got no episode; it reads the tensors of one or more")
    for key, classes in grids.items():
        if not isinstance(spaces.get(key), Grid) or largest[key] >= classes:
            raise ValueError(
                f"observation_spaces was asked for the grid {key!r} of {classes} classes; a grid "
                f"is uint8 `time height width channel` below its classes, and the episodes have "
                f"{spaces} with the largest numbers {largest}"
            )
    for key, space in spaces.items():
        if isinstance(space, Image) and 0 < (most := largest[key]) < FEW:
            warnings.warn(
                f"the image {key!r} has no number above {most}, and is nearly black; if these are "
                f"classes of a board or a map, ask for a wb.spaces.Grid with grids={{{key!r}: "
                f"{most + 1}}} (--grids '{{\"{key}\": {most + 1}}}' of recipes/world_model.py), or "
                f"more, as many as there are",
                stacklevel=2,
            )
    return spaces
