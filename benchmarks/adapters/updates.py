"""The update of the Atari recipe at any size and on any device, the meta device included."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

import worldblocks as wb
from benchmarks.adapters.data import batch
from benchmarks.adapters.ours import load_recipe
from benchmarks.work import ACTIONS, IMAGE, Work


@dataclass
class Update:
    """An agent and what it learns from."""

    recipe: ModuleType
    cfg: Any
    agent: Any
    optimizer: Any
    rows: wb.replay.Batch

    def step(self) -> None:
        """The whole update."""
        self.recipe.update(self.agent, self.optimizer, self.rows, self.cfg)


def assemble(work: Work, *, device: str = "cpu", image: int = IMAGE[0], **options: Any) -> Update:
    """The recipe's agent and a batch of the work.

    Args:
        device: "meta" takes no memory.
        image: side in pixels.
        **options: further ones of the recipe: `imag_last`, `recompute`, `bf16`.
    """
    recipe = load_recipe()
    sizes = {"batch": work.batch, "length": work.length, "horizon": work.horizon, **work.sizes}
    cfg = recipe.Config(**{"device": device, "bf16": False, "image": image, **sizes, **options})
    observation = {"image": wb.spaces.Image(image, image, 3)}
    with torch.device(device):
        agent, optimizer = recipe.build(cfg, observation, {"action": wb.spaces.Discrete(ACTIONS)})
    rows = rows_of(agent, work.batch, work.length, image).to(device)
    return Update(recipe, cfg, agent, optimizer, rows)


def rows_of(agent: Any, windows: int, length: int, image: int) -> wb.replay.Batch:
    """A batch for an agent, itself on the CPU."""
    data = {
        key: torch.as_tensor(value)
        for key, value in batch(windows, length, side=image).items()
        if key != "action_index"
    }
    return wb.replay.Batch(
        obs={"image": data.pop("image")},
        prev_action=data.pop("action"),
        carry=agent.rssm.initial(windows),
        row=None,
        **data,
    )


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Autocast knows no meta device; in float32 there is nothing for it to do."""
    kept = torch.autocast
    torch.autocast = lambda *_, **__: contextlib.nullcontext()
    try:
        yield
    finally:
        torch.autocast = kept
