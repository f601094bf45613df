"""Describe a gymnasium space for blocks that are built without an environment of ours."""

from typing import Any

from worldblocks._wrong_call import described
from worldblocks.envs.errors import extra
from worldblocks.envs.gym.conversion import _add, _leaves, _observed
from worldblocks.envs.gym.images import channels_first
from worldblocks.spaces import Image, Space


def spaces_of(space: Any, *, name: str | None = None) -> dict[str, Space]:
    """Describe a gymnasium space; the keys and spaces are those of `wb.envs.gym`.

    Images keep their size and become `height width channel`. The values of the environment are not
    converted: classes must be counted from 0 and actions lie in [-1, 1], as `wb.envs.gym` does.

    Args:
        space: the space of observations or of actions; `Dict` and `Tuple` are flattened, keys
            joined by "/".
        name: key of a space that is neither; by default `image` or `vector`. For actions,
            `wb.envs.gym` calls it `action`.

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
    for path, leaf in _leaves(space, ()):
        parts = _observed(leaf, 1, "spaces_of", path)
        if parts is None:
            raise ValueError(
                f"spaces_of got {leaf}; it takes Box, Discrete, MultiDiscrete and MultiBinary, and "
                f"Dict and Tuple of those"
            )
        for suffix, (ours, _) in parts.items():
            if isinstance(ours, Image):
                ours = _full_size(leaf.shape)
            single = name or ("image" if isinstance(ours, Image) else "vector")
            _add(spaces, ("/".join(map(str, path)) or single) + suffix, ours)
    return spaces


def _full_size(shape: tuple[int, ...]) -> Image:
    """The image of a Box of two or three axes."""
    if len(shape) == 2:
        return Image(shape[0], shape[1], 1)
    first, second, third = shape
    return Image(second, third, first) if channels_first(shape) else Image(first, second, third)
