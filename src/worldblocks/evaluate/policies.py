"""Policies that map rows to actions: an agent, and a random policy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from worldblocks.envs import EnvVector, Rows
from worldblocks.spaces import Continuous

Policy = Callable[[Rows], Any]
"""Maps the rows of all environments to flat actions, `env action`."""


class AgentPolicy:
    """An agent as a policy; it carries the state of `act` from row to row.

    Args:
        act: `act(agent, obs, acting, is_first) -> (action, acting)`, as in the recipes.
        agent: the agent; `agent.initial(n)` is the first `acting`.
        n: number of environments.
        mode: act with the mode of the policy, by `act(..., mode=True)`.

    Attributes:
        acting: the `wb.rssm.Acting` after the last row.
    """

    def __init__(self, act: Callable[..., Any], agent: Any, n: int, mode: bool = False) -> None:
        self.act, self.agent, self.acting = act, agent, agent.initial(n)
        self.options = {"mode": True} if mode else {}

    def __call__(self, rows: Rows) -> Float32[torch.Tensor, "env action"]:
        """The action of each environment, on the agent's device."""
        action, self.acting = self.act(
            self.agent, rows.obs, self.acting, rows.is_first, **self.options
        )
        return action


def random_policy(envs: EnvVector, seed: int) -> Policy:
    """A policy that draws actions uniformly: numbers from [-1, 1], classes with equal probability.

    Args:
        envs: the environments to act in.
        seed: seed of the draws.
    """
    random = np.random.default_rng(seed)

    def policy(_: Rows) -> Float32[torch.Tensor, "env action"]:
        parts = []
        for _, space in sorted(envs.action.items()):
            shape = (len(envs), *space.shape)
            if isinstance(space, Continuous):
                part = random.uniform(-1, 1, shape)
            else:
                part = np.eye(space.classes)[random.integers(space.classes, size=shape)]
            parts.append(part.reshape(len(envs), -1))
        return torch.from_numpy(np.concatenate(parts, -1)).float()

    return policy
