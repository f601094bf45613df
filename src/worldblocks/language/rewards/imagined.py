"""Rewards of imagined rows: from a head, a spec on predicted features, or a caption."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from worldblocks import distributions as dists
from worldblocks.envs import Goal
from worldblocks.heads import FeatureHead
from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.operators import rise
from worldblocks.layers import MLP, Linear
from worldblocks.typing import typed


class HeadReward(nn.Module):
    """Imagined reward from a reward head trained on relabelled replay.

    Args:
        head: maps model features to a distribution with a `mean`, such as `TwoHotHead`.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
        """The reward that arrives with each row."""
        return self.head(feature).mean


class SpecReward(nn.Module):
    """Imagined reward from a compiled spec on predicted features: another spec needs no new data.

    Args:
        head: predicts the features (`heads.FeatureHead`).
        reward: the compiled spec; may be replaced at any time.
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
        """The reward that arrives with each row; the second-last axis of `feature` is time."""
        means = self.head(feature).mean
        return self.reward({name: means[name] for name in self.reward.names or list(means)[:1]})


class CaptionHead(nn.Module):
    """Predicts the sentence embedding of the goals achieved in a row, zeros if there is none.

    Args:
        feature_dim: width of the model's feature vector.
        embed_dim: width of the sentence embedding.
        units, layers: size of the MLP.

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
    """Imagined reward from the similarity of a predicted caption to that of a goal.

        reward = max(0, caption · goal)

    The goal has length 1 and a caption at most about 1, so this is the cosine where an event is
    predicted, and 0 elsewhere. Captions of other goals have a positive cosine too.

    Args:
        head: predicts captions.
        goal: embedding of the goal's sentence; normalised to length 1.
    """

    goal: Tensor

    def __init__(self, head: CaptionHead, goal: Float[Tensor, " embed"]) -> None:
        super().__init__()
        if not goal.norm() > 0:
            raise ValueError("CaptionReward needs a non-zero goal, got zeros")
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
    """The caption of each row: the summed embeddings of the goals achieved in it, length at most 1.

    Args:
        features: of stored rows, including those of the goals.
        is_first: first rows of episodes, in which no goal is achieved.
        goals: the possible goals.
        embeddings: of the sentence of each goal.
    """
    rises = [rise(features[goal.feature].float(), is_first) for goal in goals]
    total = torch.stack(rises, -1).to(embeddings.dtype) @ embeddings
    return total / total.norm(dim=-1, keepdim=True).clamp(min=1)
