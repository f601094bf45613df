"""What a sentence compiles to, on sample observations, before any training."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.envs import (
    BODIES,
    Environment,
    EnvVector,
    Rows,
    dmc_features,
    minigrid,
    split_features,
)
from worldblocks.evaluate import play, random_policy
from worldblocks.language.ranking.ranking import Ranker
from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.menu import menu_of, sample_features
from worldblocks.language.rewards.spec import RewardSpec
from worldblocks.spaces import Actions, Discrete, one_hot_action

ROWS = 300  # of a sample


class Played(NamedTuple):
    """Rows of an environment: features by name, and where episodes open."""

    features: dict[str, Float[Tensor, " time"]]
    is_first: Bool[Tensor, " time"]


def featured(name: str) -> Environment:
    """A task of a control body, or a level of MiniGrid, with its features."""
    return dmc_features(name) if name.split("_")[0] in BODIES else minigrid(name)


def sampled(name: str, rows: int, seed: int, idle: bool) -> Played:
    """Rows of an environment under random actions, or under none."""
    envs, kept = EnvVector([featured(name)], seed=seed), []

    def watch(row: Rows, _: Any) -> bool:
        kept.append(row)
        return len(kept) == rows

    still = nothing(envs.action)
    policy = (lambda _: still) if idle else random_policy(envs, seed)
    play(policy, envs, rows, watch=watch)
    features = [split_features(row.obs)[1] for row in kept]
    tensors = {n: torch.cat([row[n].float().flatten() for row in features]) for n in features[0]}
    return Played(tensors, torch.cat([row.is_first for row in kept]))


def nothing(actions: Actions) -> Float[Tensor, "env action"]:
    """The action that does nothing: zeros, or the last of several, which in MiniGrid is `done`."""
    values = {
        key: np.full(space.shape, space.classes - 1 if isinstance(space, Discrete) else 0)
        for key, space in actions.items()
    }
    return one_hot_action(actions, values)[None]


def summary(reward: RewardFunction, played: Played) -> str:
    """Mean and percentiles of the reward on played rows, and the row that pays most."""
    values = reward(played.features, played.is_first).masked_fill(played.is_first, 0.0)
    low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()
    best = int(values.argmax())
    at = {name: round(played.features[name][best].item(), 2) for name in reward.names}
    return (
        f"mean {values.mean():.3f}, 5% {low:.3f}, median {middle:.3f}, 95% {high:.3f}; "
        f"most {values[best]:.3f} at {at}"
    )


def explain(
    sentence: str, name: str, ranker: Ranker, *, rows: int = ROWS, seed: int = 0, top: int = 5
) -> list[str]:
    """Lines that say what a sentence is taken for and what that would reward.

    The reward is shown for random actions and for doing nothing: a reward that doing nothing earns
    in full would teach nothing.

    Args:
        sentence: the instruction.
        name: a task such as `walker_walk`, or a level such as `BabyAI-GoToLocal-v0`.
        ranker: chooses from the menu.
        rows: of each sample.
        seed: of the episodes.
        top: how many phrases are listed.
    """
    env = featured(name)
    env.reset(seed)
    menu = menu_of(name, env)
    ranking = ranker.rank(sentence, menu.phrases)
    prior = ranking.prior()
    lines = [f"instruction: {sentence}", f"menu of {name}: {len(menu.phrases)} phrases"]
    rows_of = zip(ranking.items[:top], ranking.scores, prior, strict=False)
    lines += [f"  {score:7.2f}  {share:5.1%}  {phrase}" for phrase, score, share in rows_of]
    spec = menu.specs(ranking.items, sentence)[0]
    lines += [
        *_terms(spec),
        *_samples(name, spec.compile(sample_features(menu.ranges)), rows, seed),
    ]
    env.close()
    return lines


def _terms(spec: RewardSpec) -> Sequence[str]:
    own = json.dumps(json.loads(spec.to_json())["terms"])
    return ["reward = scale * sum of weight * expr, within -10 to 10", f"terms: {own}"]


def _samples(name: str, reward: RewardFunction, rows: int, seed: int) -> list[str]:
    kinds = {"random actions": False, "doing nothing": True}
    lines = [f"scale: {reward.scale:.3g}"]
    for kind, idle in kinds.items():
        played = sampled(name, rows, seed, idle)
        lines.append(f"{kind}, {rows} rows: {summary(reward, played)}")
    return lines
