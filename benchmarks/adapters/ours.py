"""worldblocks: the agent of the Atari recipe."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import worldblocks as wb
from benchmarks.adapters.data import batch
from benchmarks.adapters.plain import plain_layers
from benchmarks.adapters.torch_tools import flops, parameters, prepare, versions
from benchmarks.timing import Timed
from benchmarks.work import ACTIONS, IMAGE, Work


def load_recipe() -> ModuleType:
    """The recipe of the checkout that worldblocks is imported from."""
    path = Path(wb.__file__).parents[2] / "recipes" / "dreamerv3_atari.py"
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(
            f"no recipe at {path}: worldblocks must be imported from a checkout"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe"] = module
    spec.loader.exec_module(module)
    return module


def build(work: Work, *, strided: bool) -> tuple[ModuleType, Any, Any, Any]:
    """Recipe, configuration, agent and optimiser."""
    prepare(work.threads)
    recipe, sizes = load_recipe(), work.sizes
    cfg = recipe.Config(
        device="cpu",
        bf16=False,
        image=IMAGE[0],
        batch=work.batch,
        length=work.length,
        horizon=work.horizon,
        **sizes,
    )
    observation = {"image": wb.spaces.Image(*IMAGE)}
    agent, optimizer = recipe.build(cfg, observation, {"action": wb.spaces.Discrete(ACTIONS)})
    if strided:
        part = {"depth": sizes["depth"], "units": sizes["units"], "strided": True}
        agent.encoder = wb.encoders.dreamer_encoder(observation, **part)
        stoch = cfg.groups * sizes["classes"]
        agent.decoder = wb.decoders.dreamer_decoder(
            observation, deter=sizes["deter"], stoch=stoch, **part
        )
        optimizer = wb.optim.dreamer_optimizer(
            agent.parameters(), cfg.lr, agc=cfg.agc, warmup=cfg.warmup
        )
    return recipe, cfg, agent, optimizer


def trained(agent: Any) -> int:
    """Parameters; the slow copy of the critic is not counted."""
    return parameters(*(part for name, part in agent.named_children() if name != "slow_value"))


def facts() -> dict[str, Any]:
    """How it runs and what it is."""
    checked = os.environ.get("JAXTYPING_DISABLE", "0").lower() not in ("1", "true")
    mode = "eager, shapes checked" if checked else "eager"
    return {"mode": mode, "versions": versions("worldblocks", "torch")}


def work_of(functions: dict[str, Callable[[], Any]]) -> dict[str, dict[str, float]]:
    """FLOPs of the architecture, and those that are executed."""
    with plain_layers():
        defined = {case: flops(function) for case, function in functions.items()}
    return {"flops": defined, "executed": {case: flops(f) for case, f in functions.items()}}


def update(work: Work, strided: bool = False) -> Timed:
    """The recipe's update on one batch.

    Args:
        strided: with the encoder and decoder that halve by strides.
    """
    recipe, cfg, agent, optimizer = build(work, strided=strided)
    data = {key: torch.as_tensor(value) for key, value in batch(work.batch, work.length).items()}
    flags = {key: data[key] for key in ("reward", "is_first", "is_last", "is_terminal")}
    rows = wb.replay.Batch(
        obs={"image": data["image"]},
        prev_action=data["action"],
        carry=agent.rssm.initial(work.batch),
        row=None,
        **flags,
    )

    def step() -> None:
        recipe.update(agent, optimizer, rows, cfg)

    step()
    return Timed(
        functions={"step": step},
        note="strided encoder and decoder" if strided else "reference architecture",
        parameters=trained(agent),
        **work_of({"step": step}),
        **facts(),
    )


def rssm(work: Work) -> Timed:
    """Observe with the prior of every row, and imagine with the policy."""
    *_, agent, _ = build(work, strided=False)
    model = agent.rssm
    embed = torch.randn(*work.observe, agent.encoder.embed_dim)
    action = torch.eye(ACTIONS)[torch.randint(ACTIONS, work.observe)]
    is_first = torch.zeros(work.observe, dtype=torch.bool)
    is_first[:, 0] = True
    carry = model.initial(work.observe[0])
    begin = model.initial(work.imagine)
    start = wb.rssm.State(begin.deter, begin.stoch, begin.stoch)

    def posterior_and_prior() -> tuple[torch.Tensor, ...]:
        post = model.observe(carry, embed, action, is_first)
        return (*post, model.latent.prior(post.deter))

    @torch.no_grad()
    def observe() -> None:
        posterior_and_prior()

    def observe_backward() -> None:
        torch.stack([part.sum() for part in posterior_and_prior()]).sum().backward()
        model.zero_grad()

    @torch.no_grad()
    def imagine() -> None:
        wb.rssm.imagine(model, start, lambda s: agent.actor(s.feature()).sample(), work.horizon)

    functions = {f.__name__: f for f in (observe, observe_backward, imagine)}
    own = {"parameters": parameters(model), **work_of(functions), **facts()}
    return Timed(functions=functions, **own)
