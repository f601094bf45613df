"""torchrl's DreamerV3: measured with the agent that `torchrl_agent` joins from its parts."""

from typing import Any

import torch
from tensordict import TensorDict

from benchmarks.adapters.data import batch
from benchmarks.adapters.torch_tools import flops, parameters, prepare, versions
from benchmarks.adapters.torchrl_agent import Agent
from benchmarks.adapters.torchrl_losses import Learner
from benchmarks.timing import Timed
from benchmarks.work import ACTIONS, Work

NOTE = (
    "its image encoder and decoder, block-GRU RSSM and DreamerV3 losses, joined by us: it has no "
    "DreamerV3 for images; no replay value loss; fused Adam, clipping by the norm of all gradients"
)


def facts() -> dict[str, Any]:
    """Versions and what differs."""
    return {"versions": versions("torchrl", "tensordict", "torch"), "note": NOTE}


def rows(agent: Agent, work: Work) -> TensorDict:
    """A batch in the form that its model loss takes."""
    data = batch(work.batch, work.length)
    tensors = {key: torch.as_tensor(value) for key, value in data.items()}
    size = [work.batch, work.length]
    arrived = {
        "image": tensors["image"].permute(0, 1, 4, 2, 3).contiguous(),
        "reward": tensors["reward"][..., None],
        "terminated": tensors["is_terminal"][..., None],
    }
    return TensorDict(
        {
            "action": tensors["action"],
            "is_init": tensors["is_first"][..., None],
            "state": torch.zeros(*size, agent.stoch),
            "belief": torch.zeros(*size, agent.deter),
            "next": TensorDict(arrived, size),
        },
        size,
    )


def update(work: Work) -> Timed:
    """Model, actor and value losses in turn, each with its optimiser."""
    prepare(work.threads)
    agent = Agent(work)
    learner, data = Learner(agent, work), rows(agent, work)

    def step() -> None:
        one = data.clone(False)
        one["next", "pixels"] = one["next", "image"].float() / 255 - 0.5
        learner.step(one)

    step()
    return Timed(
        functions={"step": step},
        flops={"step": flops(step)},
        parameters=parameters(agent.world_model, agent.actor, agent.value),
        **facts(),
    )


def rssm(work: Work) -> Timed:
    """Its rollouts: of the posterior with the prior of every row, of the policy."""
    prepare(work.threads)
    agent = Agent(work)
    size = list(work.observe)
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, size)]
    embed = TensorDict({"encoded_latents": torch.randn(*size, agent.embed)}, size)
    sequence = TensorDict(
        {
            "action": action,
            "is_init": torch.zeros(*size, 1, dtype=torch.bool),
            "state": torch.zeros(*size, agent.stoch),
            "belief": torch.zeros(*size, agent.deter),
            "next": embed,
        },
        size,
    )
    sequence["is_init"][:, 0] = True
    count = work.imagine
    zeros = {"state": torch.zeros(count, agent.stoch), "belief": torch.zeros(count, agent.deter)}
    start = TensorDict(zeros, [count])

    @torch.no_grad()
    def observe() -> None:
        agent.rollout(sequence.clone(False))

    def observe_backward() -> None:
        rolled = agent.rollout(sequence.clone(False))["next"]
        names = ("state", "belief", "posterior_logits", "prior_logits")
        torch.stack([rolled[name].sum() for name in names]).sum().backward()
        agent.rollout.zero_grad(set_to_none=True)

    @torch.no_grad()
    def imagine() -> None:
        given = {"policy": agent.actor, "auto_reset": False, "tensordict": start.clone()}
        agent.env.rollout(work.horizon, **given)

    functions = {f.__name__: f for f in (observe, observe_backward, imagine)}
    counted = {case: flops(function) for case, function in functions.items()}
    used = parameters(agent.rollout)
    return Timed(functions=functions, flops=counted, parameters=used, **facts())
