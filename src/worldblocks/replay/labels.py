"""Rewards of replayed rows as functions of features that were stored with them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor

LABEL, FEATURE = "reward/", "feat/"


class Relabel(NamedTuple):
    """A task's reward as a function of features of a row.

    Attributes:
        features: their names.
        reward: from features by name, `*batch ...` each, to rewards `*batch`.
        temporal: whether a row is compared with the one before it; `reward` then takes
            `is_first`, `*batch`, beside the features.
    """

    features: tuple[str, ...]
    reward: Callable[..., Float32[Tensor, "*batch"]]
    temporal: bool = False


class Labels(NamedTuple):
    """Rewards of rows, and which of them are known.

    Attributes:
        reward: 0 where it is not known, and where an episode opens.
        known: False at the first row of a window that goes on in the middle of an episode, if the
            reward compares with the row before: leave those rows out of a loss.
    """

    reward: Float32[Tensor, "batch time"]
    known: Bool[Tensor, "batch time"]


def relabel(
    features: Mapping[str, Shaped[Tensor, "batch time ..."]],
    is_first: Bool[Tensor, "batch time"],
    how: Relabel,
) -> Labels:
    """The reward of every row, whatever reward was stored: another task costs no data.

    Args:
        features: of stored rows, by name.
        is_first: rows that open an episode.
        how: the reward of the task.

    Raises:
        KeyError: a feature is not there.

    >>> speed, first = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[True, False, False]])
    >>> double = Relabel(("speed",), lambda feature: 2 * feature["speed"])
    >>> relabel({"speed": speed}, first, double).reward.tolist()
    [[0.0, 2.0, 4.0]]
    """
    if missing := [name for name in how.features if name not in features]:
        raise KeyError(
            f"the reward needs the features {missing}, replay has {sorted(features)}; make the "
            f"environment with them"
        )
    given: list[Any] = [features, is_first] if how.temporal else [features]
    known = torch.ones_like(is_first)
    if how.temporal:
        known[:, 0] = is_first[:, 0]
    return Labels(how.reward(*given).masked_fill(is_first | ~known, 0.0), known)
