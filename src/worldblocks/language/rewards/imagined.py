"""Rewards of imagined rows, in three ways: a head, a spec on predicted features, a caption."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldblocks import distributions as dists
from worldblocks.envs import Goal
from worldblocks.heads import FeatureHead
from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.operators import previous, truth
from worldblocks.layers import MLP, Linear
from worldblocks.typing import typed


class HeadReward(nn.Module):
    """Imagined reward by a reward head that was fitted on relabelled replay.

    Args:
        head: model features to a prediction with a `mean`, such as `TwoHotHead`.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The reward that arrives with each row."""
        return self.head(feature).mean


class SpecReward(nn.Module):
    """Imagined reward by a compiled spec on predicted features: a new sentence needs no new data.

    Args:
        head: predicts the features, as `heads.FeatureHead`.
        reward: the spec; may be replaced at any time.
    """

    def __init__(self, head: FeatureHead, reward: RewardFunction) -> None:
        super().__init__()
        if unknown := [name for name in reward.names if name not in head.ranges]:
            raise ValueError(
                f"the reward uses {unknown}, which the head does not predict; it predicts "
                f"{list(head.ranges)}"
            )
        self.head, self.reward = head, reward

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The reward that arrives with each row; rows follow each other on the axis before last."""
        means = self.head(feature).mean
        return self.reward({name: means[name] for name in self.reward.names or list(means)[:1]})


class CaptionHead(nn.Module):
    """Predicts the sentence embedding of what happened with a row: zeros where nothing did.

    Args:
        feature_dim: width of the model's feature vector.
        embed_dim: of the sentence encoder.
        units, layers: of the MLP.

    Source: DLLM (Liu et al., NAACL 2025), the caption of its world model.
    """

    def __init__(self, feature_dim: int, *, embed_dim: int, units: int, layers: int) -> None:
        super().__init__()
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.out = Linear(units, embed_dim, outscale=0.0)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.MSE:
        """The embedding at each model state."""
        return dists.MSE(self.out(self.mlp(feature)), event=1)


class CaptionReward(nn.Module):
    """Imagined reward by what a predicted caption has in common with a goal's.

        reward = max(0, caption · goal)

    The goal has length 1 and a caption at most about 1, so this is the cosine where something is
    predicted to happen and 0 where nothing is. Other goals' captions are similar too: rank them.

    Args:
        head: predicts captions.
        goal: embedding of the wanted event's sentence; brought to length 1.
    """

    goal: Tensor

    def __init__(self, head: CaptionHead, goal: Float[Tensor, " embed"]) -> None:
        super().__init__()
        if not goal.norm() > 0:
            raise ValueError("CaptionReward needs a goal with a direction, got zeros")
        self.head = head
        self.register_buffer("goal", goal / goal.norm(), persistent=False)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The reward that arrives with each row."""
        return (self.head(feature).mean @ self.goal).clamp(min=0)


def caption_target(
    features: Mapping[str, Float[Tensor, "*batch time"]],
    is_first: Bool[Tensor, "*batch time"],
    goals: Sequence[Goal],
    embeddings: Float[Tensor, "goal embed"],
) -> Float[Tensor, "*batch time embed"]:
    """The caption of each row: the embeddings of what was achieved with it, of length 1 at most.

    No text is stored: the features say what happened.

    Args:
        features: of stored rows, among them those of the goals.
        is_first: rows that open an episode; nothing was achieved with them.
        goals: what can be achieved.
        embeddings: of each goal's sentence.
    """
    bits = [features[goal.feature].float() for goal in goals]
    rises = [truth(x) & ~truth(previous(x, is_first)) for x in bits]
    total = torch.stack(rises, -1).to(embeddings.dtype) @ embeddings
    return total / total.norm(dim=-1, keepdim=True).clamp(min=1)
