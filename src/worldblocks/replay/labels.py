"""Rewards of stored rows as functions of their stored features."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor

LABEL, FEATURE = "reward/", "feat/"


class Relabel(NamedTuple):
    """The reward of a task as a function of the features of a row.

    Attributes:
        features: names of the features.
        reward: function from features by name, `*batch ...` each, to rewards `*batch`.
        temporal: whether the reward compares a row with the previous row; `reward` then takes
            `is_first`, `*batch`, as its second argument.
    """

    features: tuple[str, ...]
    reward: Callable[..., Float32[Tensor, "*batch"]]
    temporal: bool = False


class Labels(NamedTuple):
    """Rewards of rows, and which of them are known.

    Attributes:
        reward: the rewards; 0 where unknown, and at the first row of an episode.
        known: False where the reward compares a row with the previous row and a window starts in
            the middle of an episode. Mask these rows in a loss.
    """

    reward: Float32[Tensor, "batch time"]
    known: Bool[Tensor, "batch time"]


def relabel(
    features: Mapping[str, Shaped[Tensor, "batch time ..."]],
    is_first: Bool[Tensor, "batch time"],
    how: Relabel,
) -> Labels:
    """Compute the reward of a task for every row, regardless of the stored reward.

    Args:
        features: features of stored rows, by name.
        is_first: first rows of episodes.
        how: the reward of the task.

    Raises:
        KeyError: a feature is missing.

    >>> speed, first = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[True, False, False]])
    >>> double = Relabel(("speed",), lambda feature: 2 * feature["speed"])
    >>> relabel({"speed": speed}, first, double).reward.tolist()
    [[0.0, 2.0, 4.0]]
    """
    if missing := [name for name in how.features if name not in features]:
        raise KeyError(
            f"the reward needs the features {missing}, but replay has {sorted(features)}; create "
            f"the environment with these features"
        )
    given: list[Any] = [features, is_first] if how.temporal else [features]
    known = torch.ones_like(is_first)
    if how.temporal:
        known[:, 0] = is_first[:, 0]
    return Labels(how.reward(*given).masked_fill(is_first | ~known, 0.0), known)
