"""torchrl: the agent of `torchrl_agent`, its return estimators, its replay."""

import itertools
import tempfile
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.data import LazyMemmapStorage, LazyTensorStorage, ReplayBuffer, SliceSampler
from torchrl.objectives.value import functional

from benchmarks import data
from benchmarks.peers.torchrl_agent import Agent, Learner
from benchmarks.returns import GAMMA, LAM, Made, Numbers, tensors
from benchmarks.returns import measured as measured_returns
from benchmarks.rssm import functions
from benchmarks.stores import Store, in_episodes, measured, tensor_rows
from benchmarks.torch_tools import flops, parameters, prepare, versions
from benchmarks.work import ACTIONS, Work
from benchmarks.worker import Timed

NOTE = (
    "its image encoder and decoder, block-GRU RSSM and DreamerV3 losses, joined by us: it has no "
    "DreamerV3 for images; no replay value loss; fused Adam, clipping by the norm of all gradients"
)


def facts() -> dict[str, Any]:
    """Versions and what differs."""
    return {"versions": versions("torchrl", "tensordict", "torch"), "note": NOTE}


def rows(agent: Agent, work: Work) -> TensorDict:
    """A batch in the form that its model loss takes."""
    size = [work.batch, work.length]
    made = {key: torch.as_tensor(value) for key, value in data.batch(*size).items()}
    arrived = {
        "image": made["image"].permute(0, 1, 4, 2, 3).contiguous(),
        "reward": made["reward"][..., None],
        "terminated": made["is_terminal"][..., None],
    }
    return TensorDict(
        {
            "action": made["action"],
            "is_init": made["is_first"][..., None],
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
    learner, given = Learner(agent, work), rows(agent, work)

    def step() -> None:
        one = given.clone(False)
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

    def observe() -> list[torch.Tensor]:
        rolled = agent.rollout(sequence.clone(False))["next"]
        return [rolled[name] for name in ("state", "belief", "posterior_logits", "prior_logits")]

    def imagine() -> None:
        given = {"policy": agent.actor, "auto_reset": False, "tensordict": start.clone()}
        agent.env.rollout(work.horizon, **given)

    cases = functions(observe, agent.rollout.zero_grad, imagine)
    counted = {case: flops(function) for case, function in cases.items()}
    used = parameters(agent.rollout)
    return Timed(functions=cases, flops=counted, parameters=used, **facts())


def returns(work: Work, kind: str) -> Timed:
    """TD(λ), or advantages with the values added: the same returns."""
    prepare(work.threads)
    names = {"td_lambda": "td_lambda_return_estimate", "gae": "generalized_advantage_estimate"}
    prefix = "vec_" if kind.startswith("vec_") else ""
    function = getattr(functional, prefix + names[kind.removeprefix("vec_")])
    gae = kind.endswith("gae")

    def make(numbers: Numbers) -> Made:
        given = tensors(numbers, batch_first=True, last_axis=True)
        terminated = given["terminal"]
        done = terminated.clone()
        done[:, -1] = True
        values = (given["before"],) if gae else ()
        arguments = (GAMMA, LAM, *values, given["value"], given["reward"])
        flags = {"done": done, "terminated": terminated}

        def back(out: Any) -> Any:
            return (out[0] + given["before"] if gae else out)[..., 0].T

        return lambda: function(*arguments, **flags), back

    return measured_returns(work, make, versions=versions("torchrl", "torch"))


def replay(work: Work, kind: str) -> Timed:
    """Its buffer with its sampler of slices."""
    prepare(work.threads)
    windows, length = work.sample
    streams = work.streams

    def storage(capacity: int) -> Any:
        if kind == "tensor":
            return LazyTensorStorage(capacity, ndim=2)
        return LazyMemmapStorage(capacity, ndim=2, scratch_dir=tempfile.mkdtemp(dir="."))

    def make(capacity: int, image: bool) -> Store:
        sampler = SliceSampler(num_slices=windows, traj_key="episode", strict_length=True)
        buffer = ReplayBuffer(
            storage=storage(capacity), sampler=sampler, batch_size=windows * length
        )
        rows, places = tensor_rows(work, image), itertools.count(capacity // streams)
        ready = [TensorDict(row, [streams]).unsqueeze(1) for row in rows]

        def add() -> None:
            place = next(places)
            row = ready[place % len(ready)]
            row["episode"] = torch.as_tensor(data.episodes(place, streams))[:, None]
            buffer.extend(row)

        def sample() -> Any:
            return buffer.sample().view(windows, length)

        return Store(add, sample, in_episodes(work, image, {}, buffer.extend))

    note = {"tensor": "LazyTensorStorage", "memmap": "LazyMemmapStorage; mapped pages count"}[kind]
    known = versions("torchrl", "tensordict", "torch")
    return measured(work, make, note=f"{note}, SliceSampler", versions=known)
