"""Updates of the recipes on a device: walker_walk from its numbers, or images."""

import math
from typing import Any

import torch

import worldblocks as wb
from benchmarks import ROOT
from benchmarks.data import batch
from benchmarks.ours import Update, assemble
from benchmarks.work import ACTIONS, SIZES, Work
from worldblocks.run import load_recipe

# What the simulator shows of the walker; its six motors are as many as `batch` has actions.
WALKER = {"orientations": (14,), "height": (), "velocity": (9,)}
TINY = {"deter": 32, "hidden": 16, "units": 16, "classes": 4, "groups": 4, "depth": 2}


def images(size: str, device: str, quick: bool, *, length: int = 64, **options: Any) -> Update:
    """The Atari recipe on 64×64×3 images, 16 windows."""
    torch.manual_seed(0)
    if quick:
        work = Work(batch=2, length=4, horizon=3)
        return assemble(work, device=device, image=48, **TINY, **options)
    work = Work(size=size, batch=16, length=length)
    return assemble(work, device=device, **options)


def proprio(size: str, device: str, quick: bool, *, length: int = 64, **options: Any) -> Update:
    """The DeepMind Control recipe on the walker's numbers, 16 windows."""
    torch.manual_seed(0)
    recipe = load_recipe(ROOT / "recipes" / "dreamerv3_dmc.py")
    sizes = {**TINY, "horizon": 3} if quick else SIZES[size]
    cfg = recipe.Config(**{"device": device, "bf16": False, **sizes, **options})
    observation = {key: wb.spaces.Continuous(shape) for key, shape in WALKER.items()}
    with torch.device(device):
        action = {"action": wb.spaces.Continuous((ACTIONS,))}
        agent, optimizer = recipe.build(cfg, observation, action)
    rows = walker_rows(agent, *((2, 4) if quick else (cfg.batch, length))).to(device)
    return Update(recipe, cfg, agent, optimizer, rows)


def walker_rows(agent: Any, windows: int, length: int) -> wb.replay.Batch:
    """Random rows of the walker's shapes; rewards in [0, 1], as its are."""
    made = batch(windows, length, side=1)
    flags = {key: torch.as_tensor(made[key]) for key in ("is_first", "is_last", "is_terminal")}
    numbers = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(windows, length, *shape, generator=numbers)  # noqa: E731
    return wb.replay.Batch(
        obs={key: draw(*shape) for key, shape in WALKER.items()},
        prev_action=draw(ACTIONS).tanh(),
        reward=draw().sigmoid(),
        carry=agent.rssm.initial(windows),
        row=None,
        **flags,
    )


def losses(one: Update) -> dict[str, torch.Tensor]:
    """The mean of each loss, in the dtype that the recipe computes in."""
    with torch.autocast(one.rows.reward.device.type, torch.bfloat16, enabled=one.cfg.bf16):
        post, found, _ = one.recipe.world_model_loss(one.agent, one.rows, one.cfg)
        found |= one.recipe.actor_critic_loss(one.agent, post, one.rows, one.cfg)[0]
    return {name: loss.mean() for name, loss in found.items()}


def gradients(one: Update) -> dict[str, torch.Tensor]:
    """Of the total, by parameter."""
    one.optimizer.zero_grad()
    torch.stack(list(losses(one).values())).sum().backward()
    named = one.agent.named_parameters()
    return {name: p.grad.detach().clone() for name, p in named if p.grad is not None}


def parameters(one: Update) -> dict[str, torch.Tensor]:
    """What is trained, by name."""
    return {name: p.detach() for name, p in one.agent.named_parameters() if p.requires_grad}


def error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """max|ours − reference| / max|reference|; absolute where all are zero."""
    largest = float(reference.abs().max()) or 1.0
    return float((ours - reference).abs().max()) / largest


def finite(value: float) -> float | None:
    """JSON has no other numbers; four digits."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
