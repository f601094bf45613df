"""What recorded observations are."""

from collections.abc import Iterable

import torch

from worldblocks.replay.batch import Batch
from worldblocks.spaces import Continuous, Discrete, Image, Space, Spaces


def observation_spaces(episodes: Iterable[Batch]) -> Spaces:
    """What the observations of episodes are, read from their tensors.

    uint8 of three axes is an `Image`, floats are `Continuous`. Integers are `Discrete` with the
    largest class that occurs, so give all episodes.

    Raises:
        ValueError: there is no episode.

    >>> import numpy as np
    >>> from worldblocks.replay import episode_from_numpy
    >>> played = episode_from_numpy(np.array([0, 2]), np.zeros((1, 4)), [1.0], False)
    >>> observation_spaces([played])
    {'vector': Discrete(classes=3, shape=())}
    """
    spaces: dict[str, Space] = {}
    for episode in episodes:
        for key, value in episode.obs.items():
            shape = tuple(value.shape[1:])
            if value.dtype == torch.uint8 and len(shape) == 3:
                spaces[key] = Image(*shape)
            elif value.is_floating_point():
                spaces[key] = Continuous(shape)
            else:
                before = spaces.get(key)
                classes = before.classes if isinstance(before, Discrete) else 1
                spaces[key] = Discrete(max(classes, int(value.max()) + 1), shape)
    if not spaces:
        raise ValueError("observation_spaces got no episode; it reads the tensors of one or more")
    return spaces
