"""Set-up of group k: a recipe's agent with the recorded weights, and its batch."""

from dataclasses import fields, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from parity.arrays import Arrays, action_spaces, observation_spaces, rssm_sizes
from worldblocks.distributions import modes
from worldblocks.interop import load_jax
from worldblocks.replay import Batch
from worldblocks.rssm import Carry, State, imagine
from worldblocks.run import load_recipe
from worldblocks.spaces import Actions, Spaces, one_hot_action

# Scope in the official checkpoint -> module of a recipe's agent.
SCOPES = {
    "enc": "encoder",
    "dyn": "rssm",
    "dec": "decoder",
    "rew": "reward",
    "con": "cont",
    "pol": "actor",
    "val": "value",
}
SLOW = ("slowval", "slow_value.copy")
# Settings of the recorded run that are not in the record.
CONSTANTS = {"gamma": 1 - 1 / 333, "lam": 0.95, "entropy": 3e-4, "lr": 1e-3, "warmup": 2}
CONSTANTS |= {"agc": 0.3, "bf16": False}
RECIPE = Path(__file__).parents[2] / "recipes" / "dreamerv3_atari.py"
HORIZON, LONGEST = 5, 32
NO_OBSERVATION = ("action", "reward", "is_first", "is_last", "is_terminal", "consec", "stepid")


class Setup(NamedTuple):
    """A recipe, its agent with the recorded weights, the recorded batch and its configuration."""

    recipe: Any
    agent: Any
    optimizer: Any
    batch: Batch
    cfg: Any
    observation: Spaces


def set_up(file: Arrays, path: Path) -> Setup:
    """Build the agent and the batch of group k; sizes are read from the arrays."""
    recipe = load_recipe(path)
    params, data = file.at("start_state"), file.at("data")
    observation, action = _spaces(file)
    sizes = _sizes(file)
    known = {field.name for field in fields(recipe.Config)}
    given = {**CONSTANTS, **sizes, "device": str(torch.get_default_device())}
    cfg = recipe.Config(**{k: v for k, v in given.items() if k in known})
    previous = file.at("prevact")
    prev_action = one_hot_action(action, {key: previous.tensor(key) for key in action})
    batch = _batch(data, observation, prev_action)

    agent, optimizer = recipe.build(cfg, observation, action)
    for scope, module in (*SCOPES.items(), SLOW):
        load_jax(agent.get_submodule(module), params, scope=scope)
    cfg = replace(cfg, horizon=find_horizon(agent, batch, file))
    return Setup(recipe, agent, optimizer, batch, cfg, observation)


def _spaces(file: Arrays) -> tuple[Spaces, Actions]:
    params, data = file.at("start_state"), file.at("data")
    obs = {k: data[k] for k in data if k not in NO_OBSERVATION and "/" not in k}
    obs = {k: array for k, array in obs.items() if k not in file.at("prevact")}
    size = params["dyn/dynin2/kernel"].shape[0]
    actions = {key: data[key] for key in file.at("prevact")}
    return (
        observation_spaces(obs, params, "dec", batch_axes=2),
        action_spaces(actions, size, batch_axes=2),
    )


def _sizes(file: Arrays) -> dict[str, Any]:
    """Sizes by the names of a recipe's configuration."""
    params, stoch = file.at("start_state"), file["data.dyn/stoch"]
    rssm = rssm_sizes(params, "dyn", stoch=stoch, embed=file["tokens"].shape[-1])
    sizes = {name: rssm[name] for name in ("deter", "hidden", "groups", "classes", "blocks")}
    sizes["units"] = params["rew/mlp/linear0/bias"].size
    images = "enc/cnn0/bias" in params
    sizes["depth"] = params["enc/cnn0/bias"].size // 2 if images else 1  # the first stage is 2x
    return sizes


def _batch(data: Arrays, spaces: Spaces, prev_action: Tensor) -> Batch:
    """The recorded rows without the first, whose latents are the initial carry."""
    flags = {key: data.tensor(key)[:, 1:] for key in ("is_first", "is_last", "is_terminal")}
    deter, stoch = data.tensor("dyn/deter"), data.tensor("dyn/stoch")
    shape = flags["is_first"].shape
    return Batch(
        obs={key: data.tensor(key)[:, 1:] for key in spaces},
        prev_action=prev_action,
        reward=data.tensor("reward")[:, 1:],
        **flags,
        carry=Carry(deter[:, 0], stoch[:, 0]),
        row=torch.arange(prod(shape)).reshape(shape),
    )


def observe(agent: Any, batch: Batch) -> State:
    """The posterior states of the batch."""
    embed = agent.encoder(batch.obs)
    return agent.rssm.observe(batch.carry, embed, batch.prev_action, batch.is_first)


@torch.no_grad()
def dream(agent: Any, post: State, steps: int) -> tuple[State, Float[Tensor, "batch time action"]]:
    """Imagination from every posterior, with modes instead of samples."""
    with modes():
        start = post.flatten().detach()
        return imagine(agent.rssm, start, lambda s: agent.actor(s.feature()).sample(), steps)


def find_horizon(agent: Any, batch: Batch, file: Arrays) -> int:
    """The number of imagined steps, inferred from the recorded mean weight.

    Imagination is deterministic here, so a long one contains all shorter ones, and the mean weight
    decreases with each further step.
    """
    with torch.no_grad(), modes():
        states, _ = dream(agent, observe(agent, batch), LONGEST)
        weight = agent.cont(states.feature()).mean.cumprod(1).mean(0)
    means = weight.cumsum(0) / torch.arange(1, len(weight) + 1)
    recorded = file.number("metrics.weight")
    gaps = (means[1:] / recorded - 1).abs()
    best = int(gaps.argmin()) + 1
    return best if gaps[best - 1] < 1e-4 else HORIZON
