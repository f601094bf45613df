"""Describe a gymnasium space for blocks that are built without an environment of ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from worldblocks._wrong_call import described
from worldblocks.envs.errors import extra
from worldblocks.envs.gym.conversion import _add, _leaves, _observed, _single
from worldblocks.envs.gym.images import check_asked
from worldblocks.envs.gym.values import joined
from worldblocks.spaces import Image, Space


def spaces_of(
    space: Any,
    *,
    name: str | None = None,
    grids: int | Mapping[str, int] = 0,
    float_images: bool = False,
) -> dict[str, Space]:
    """Describe a gymnasium space; the keys and spaces are those of `wb.envs.gym`.

    Images keep their size and become `height width channel`. The values of the environment are not
    converted: classes must be counted from 0 and actions lie in [-1, 1], as `wb.envs.gym` does.

    Args:
        space: the space of observations or of actions; `Dict` and `Tuple` are flattened, keys
            joined by "/".
        name: key of a space that is neither; by default `image` or `vector`. For actions,
            `wb.envs.gym` calls it `action`.
        grids, float_images: as for `wb.envs.gym`.

    Raises:
        TypeError: it is no gymnasium space.
        ValueError: a part of the space is not supported, or two parts get the same key.

    >>> import gymnasium
    >>> spaces_of(gymnasium.spaces.Discrete(3), name="action")
    {'action': Discrete(classes=3, shape=())}
    """
    with extra("gym"):
        import gymnasium
    if not isinstance(space, gymnasium.Space):
        raise TypeError(
            f"spaces_of takes a gymnasium space, such as env.observation_space or "
            f"env.action_space, got {described(space)}"
        )
    spaces: dict[str, Space] = {}
    floats = False
    for path, leaf in _leaves(space, ()):
        parts = _observed(leaf, path, "spaces_of", None, grids, float_images)
        if parts is None:
            raise ValueError(
                f"spaces_of got {leaf}; it takes Box, Discrete, MultiDiscrete and MultiBinary, and "
                f"Dict and Tuple of those"
            )
        for suffix, (ours, _) in parts.items():
            _add(spaces, (joined(path) or name or _single(ours)) + suffix, ours)
            floats |= isinstance(ours, Image) and leaf.dtype != np.uint8
    check_asked(grids, float_images, spaces, floats)
    return spaces
