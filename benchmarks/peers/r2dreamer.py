"""NM512/r2dreamer, a PyTorch port of the reference architecture: a checkout by its path."""

import itertools
import types
from typing import Any

import gymnasium
import numpy as np
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict

from benchmarks import data
from benchmarks.peers import use
from benchmarks.returns import GAMMA, LAM, Made, Numbers, padded
from benchmarks.returns import measured as measured_returns
from benchmarks.rssm import functions
from benchmarks.stores import Store, in_episodes, measured, tensor_rows
from benchmarks.torch_tools import count, flops, parameters, prepare, versions
from benchmarks.work import ACTIONS, IMAGE, Work
from benchmarks.worker import Timed


def build(work: Work, repo: str, *, compiled: bool) -> Any:
    """Its agent at our sizes."""
    use(repo)
    from dreamer import Dreamer

    sizes = dict(work.sizes)
    sizes["discrete"] = sizes.pop("classes")
    own = {"act": "SiLU", "norm": True, "rep_loss": "dreamer", "compile": compiled}
    keys = {"mlp_keys": "$^", "cnn_keys": "image"}
    base = OmegaConf.load(f"{repo}/configs/model/_base_.yaml")
    cfg = OmegaConf.create({"device": "cpu", "env": {"encoder": keys, "decoder": keys}})
    cfg.model = OmegaConf.merge(base, {**sizes, **own, "imag_horizon": work.horizon})
    box = gymnasium.spaces.Box(0, 255, IMAGE, np.uint8)
    action = gymnasium.spaces.Discrete(ACTIONS)
    action.discrete, action.n = True, ACTIONS  # its configuration refuses NumPy's integer
    return Dreamer(cfg.model, gymnasium.spaces.Dict({"image": box}), action)


def one_step(agent: Any, work: Work) -> Any:
    """`Dreamer.update` without replay, logging and the half precision it has fixed."""
    tensors = {k: torch.as_tensor(v) for k, v in data.batch(work.batch, work.length).items()}
    del tensors["action_index"]
    for key in ("reward", "is_last", "is_terminal"):
        tensors[key] = tensors[key].unsqueeze(-1)
    given = TensorDict(tensors, batch_size=(work.batch, work.length))
    initial = agent.rssm.initial(work.batch)

    def step() -> None:
        rows = agent.preprocess(given.clone(False))
        agent._update_slow_target()
        agent._cal_grad(rows, initial)
        agent._scaler.unscale_(agent._optimizer)
        agent._agc(agent._named_params.values())
        agent._scaler.step(agent._optimizer)
        agent._scaler.update()
        agent._scheduler.step()
        agent._optimizer.zero_grad(set_to_none=True)

    return step


def facts(repo: str) -> dict[str, Any]:
    """Versions."""
    return {"versions": {"r2dreamer": use(repo), **versions("torch", "tensordict")}}


def update(work: Work, repo: str, compile: bool = False) -> Timed:
    """The step; FLOPs are those of the eager form, the only one that can be counted."""
    prepare(work.threads)
    agent = build(work, repo, compiled=False)
    step = one_step(agent, work)
    step()
    counted = flops(step)
    if compile:
        step = one_step(build(work, repo, compiled=True), work)
    return Timed(
        functions={"step": step},
        flops={"step": counted},
        parameters=count(agent._named_params.values()),
        mode="torch.compile" if compile else "eager",
        note="reference architecture",
        **facts(repo),
    )


def rssm(work: Work, repo: str) -> Timed:
    """Observe with the prior of every row, and imagine with the policy."""
    prepare(work.threads)
    agent = build(work, repo, compiled=False)
    model = agent.rssm
    embed = torch.randn(*work.observe, agent.embed_size)
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, work.observe)]
    reset = torch.zeros(work.observe, dtype=torch.bool)
    reset[:, 0] = True
    initial = model.initial(work.observe[0])
    start = model.initial(work.imagine)

    def observe() -> list[torch.Tensor]:
        stoch, deter, logits = model.observe(embed, action, initial, reset)
        return [stoch, deter, logits, model._img_net(deter)]

    cases = functions(observe, model.zero_grad, lambda: agent._imagine(start, work.horizon))
    return Timed(
        functions=cases,
        flops={case: flops(function) for case, function in cases.items()},
        parameters=parameters(model),
        **facts(repo),
    )


def returns(work: Work, repo: str) -> Timed:
    """Its λ-return."""
    prepare(work.threads)
    use(repo)
    from dreamer import Dreamer

    def make(numbers: Numbers) -> Made:
        given = [torch.as_tensor(one)[..., None] for one in padded(numbers)]
        return lambda: Dreamer._lambda_return(None, *given, GAMMA, LAM), lambda out: out[..., 0].T

    return measured_returns(work, make, versions=versions("torch"))


def replay(work: Work, repo: str) -> Timed:
    """Its buffer, on torchrl's."""
    prepare(work.threads)
    use(repo)
    from buffer import Buffer

    windows, length = work.sample
    streams, sizes = work.streams, work.sizes

    def make(capacity: int, image: bool) -> Store:
        device = {"device": "cpu", "storage_device": "cpu", "max_size": capacity}
        size = {"batch_size": windows, "batch_length": length}
        buffer = Buffer(types.SimpleNamespace(**device, **size))
        # A carry is stored with each row of an agent; it would outweigh a vector observation.
        carry = {"stoch": torch.zeros(streams, 32, sizes["classes"])}
        carry["deter"] = torch.zeros(streams, sizes["deter"])
        rows, places = tensor_rows(work, image), itertools.count(capacity // streams)
        ready = [TensorDict({**row, **carry}, [streams]) for row in rows]

        def add() -> None:
            place = next(places)
            row = ready[place % len(ready)]
            row["episode"] = torch.as_tensor(data.episodes(place, streams))
            buffer.add_transition(row)

        many = in_episodes(work, image, carry, buffer._buffer.extend)
        return Store(add, buffer.sample, many)

    note = "stores a carry with each row, as it must"
    return measured(work, make, note=note, versions=versions("torchrl", "tensordict", "torch"))
