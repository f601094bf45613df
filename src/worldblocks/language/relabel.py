"""Rewards of replayed rows, computed from stored features when they are sampled."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.envs import split_features
from worldblocks.language.compiled import RewardFunction
from worldblocks.replay import Batch


class Labels(NamedTuple):
    """Rewards of rows, and which of them are known.

    Attributes:
        reward: 0 where it is not known, and where an episode opens.
        known: False at the first row of a window that goes on in the middle of an episode, if the
            reward compares with the row before: leave those rows out of a loss.
    """

    reward: Float[Tensor, "batch time"]
    known: Bool[Tensor, "batch time"]


def relabel(batch: Batch, reward: RewardFunction, *, check: bool = True) -> Labels:
    """The reward of every row by a spec, whatever reward was stored: another spec costs no data.

    Args:
        batch: rows from replay, `batch time`, whose observations have `feat/<name>`.
        reward: a compiled spec.
        check: look at the values, on the host: that no term is NaN or inf. Leave it out where a
            graph is captured.

    Raises:
        KeyError: a feature is not stored.
        ValueError: a term is not finite; names it and its features.

    >>> from worldblocks.language.reward import RewardSpec, RewardTerm
    >>> speed = torch.tensor([[3.0, 0.0, 2.0]])
    >>> flags = torch.tensor([[True, False, False]])
    >>> rest = (speed[..., None], 0 * speed, flags, ~flags, ~flags, None, None)
    >>> spec = RewardSpec((RewardTerm("above(speed, 1)"),))
    >>> reward = spec.compile({"speed": torch.arange(4.0)})
    >>> relabel(Batch({"feat/speed": speed}, *rest), reward).reward.tolist()
    [[0.0, 0.0, 1.0]]
    """
    _, features = split_features(batch.obs)
    if missing := [name for name in reward.names if name not in features]:
        raise KeyError(
            f"the reward needs the features {missing}, replay has {sorted(features)}; make the "
            f"environment with them"
        )
    if check:
        reward.check(features)
    values = reward({name: features[name] for name in reward.names}, batch.is_first)
    known = torch.ones_like(batch.is_first)
    if reward.temporal:
        known[:, 0] = batch.is_first[:, 0]
    return Labels(values.masked_fill(batch.is_first | ~known, 0.0), known)
