"""What a sentence compiles to, with its reward on sample observations."""

import json
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
from worldblocks.spaces import Actions, Discrete, one_hot_action

ROWS = 300  # of a sample
TOP = 5  # phrases in the list


class Sample(NamedTuple):
    """Rows of an environment: features by name, and the first rows of episodes."""

    features: dict[str, Float[Tensor, " time"]]
    is_first: Bool[Tensor, " time"]


def explain(
    sentence: str, name: str, ranker: Ranker, *, rows: int = ROWS, seed: int = 0
) -> list[str]:
    """Lines with the ranking of a sentence, its reward terms and their values on samples.

    The samples are of random actions and of doing nothing: a reward that doing nothing earns in
    full would teach nothing.

    Args:
        sentence: the instruction.
        name: a task such as `walker_walk`, or a level such as `BabyAI-GoToLocal-v0`.
        ranker: chooses from the menu.
        rows: number of rows of each sample.
        seed: of the episodes.
    """
    env = _environment(name)
    env.reset(seed)
    menu = menu_of(name, env)
    env.close()
    ranking = ranker.rank(sentence, menu.phrases)
    lines = [f"instruction: {sentence}", f"menu of {name}: {len(menu.phrases)} phrases"]
    candidates = zip(ranking.items[:TOP], ranking.scores, ranking.prior(), strict=False)
    lines += [f"  {score:7.2f}  {share:5.1%}  {phrase}" for phrase, score, share in candidates]
    spec = menu.specs(ranking.items, sentence)[0]
    reward = spec.compile(sample_features(menu.ranges))
    lines += [
        "reward = scale * sum of weight * expr, within -10 to 10",
        f"terms: {json.dumps(json.loads(spec.to_json())['terms'])}",
        f"scale: {reward.scale:.3g}",
    ]
    for kind, idle in {"random actions": False, "doing nothing": True}.items():
        text = _summary(reward, _sample(name, rows, seed, idle))
        lines.append(f"{kind}, {rows} rows: {text}")
    return lines


def _environment(name: str) -> Environment:
    """A task of a control body or a level of MiniGrid, with features."""
    return dmc_features(name) if name.split("_")[0] in BODIES else minigrid(name)


def _sample(name: str, rows: int, seed: int, idle: bool) -> Sample:
    """Rows of an environment under random actions, or under the action that does nothing."""
    envs, kept = EnvVector([_environment(name)], seed=seed), []

    def watch(row: Rows, _: Any) -> bool:
        kept.append(row)
        return len(kept) == rows

    nothing = _nothing(envs.action)
    policy = (lambda _: nothing) if idle else random_policy(envs, seed)
    play(policy, envs, rows, watch=watch)
    features = [split_features(row.obs)[1] for row in kept]
    tensors = {n: torch.cat([row[n].float().flatten() for row in features]) for n in features[0]}
    return Sample(tensors, torch.cat([row.is_first for row in kept]))


def _nothing(actions: Actions) -> Float[Tensor, "env action"]:
    """The action that does nothing: zeros, or the last discrete one, in MiniGrid `done`."""
    values = {
        key: np.full(space.shape, space.classes - 1 if isinstance(space, Discrete) else 0)
        for key, space in actions.items()
    }
    return one_hot_action(actions, values)[None]


def _summary(reward: RewardFunction, sample: Sample) -> str:
    """Mean and percentiles of the reward on a sample, and the features of its best row."""
    values = reward(sample.features, sample.is_first).masked_fill(sample.is_first, 0.0)
    low, middle, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()
    best = int(values.argmax())
    at = {name: round(sample.features[name][best].item(), 2) for name in reward.names}
    return (
        f"mean {values.mean():.3f}, 5% {low:.3f}, median {middle:.3f}, 95% {high:.3f}; "
        f"most {values[best]:.3f} at {at}"
    )
