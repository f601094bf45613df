"""worldblocks: the agent of the Atari recipe, its update, and its FLOPs."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import worldblocks as wb
from benchmarks.data import batch
from benchmarks.torch_tools import flops, parameters, versions
from benchmarks.work import ACTIONS, IMAGE, Work
from worldblocks import layers


@dataclass
class Update:
    """An agent and a batch of rows."""

    recipe: ModuleType
    cfg: Any
    agent: Any
    optimizer: Any
    rows: wb.replay.Batch

    def step(self) -> None:
        """The whole update."""
        self.recipe.update(self.agent, self.optimizer, self.rows, self.cfg)


def assemble(
    work: Work,
    *,
    strided: bool = False,
    device: str = "cpu",
    image: int = IMAGE[0],
    **options: Any,
) -> Update:
    """The recipe's agent and a batch of the work.

    Args:
        strided: use the strided encoder and decoder.
        device: of the agent and the batch.
        image: side in pixels.
        **options: further options of the recipe: `imag_last`, `recompute`, `bf16`.
    """
    # The recipe of the checkout from which worldblocks is imported.
    recipe = wb.run.load_recipe(Path(wb.__file__).parents[2] / "recipes" / "dreamerv3_atari.py")
    sizes = {"batch": work.batch, "length": work.length, "horizon": work.horizon, **work.sizes}
    cfg = recipe.Config(**{"device": device, "bf16": False, "image": image, **sizes, **options})
    observation = {"image": wb.spaces.Image(image, image, 3)}
    with torch.device(device):
        agent, optimizer = recipe.build(cfg, observation, {"action": wb.spaces.Discrete(ACTIONS)})
        if strided:
            part = {"depth": cfg.depth, "units": cfg.units, "strided": True}
            agent.encoder = wb.encoders.dreamer_encoder(observation, **part)
            stoch = cfg.groups * cfg.classes
            agent.decoder = wb.decoders.dreamer_decoder(
                observation, deter=cfg.deter, stoch=stoch, **part
            )
            optimizer = wb.optim.dreamer_optimizer(
                agent.parameters(), cfg.lr, agc=cfg.agc, warmup=cfg.warmup
            )
    data = {
        key: torch.as_tensor(value)
        for key, value in batch(work.batch, work.length, side=image).items()
        if key != "action_index"
    }
    rows = wb.replay.Batch(
        obs={"image": data.pop("image")},
        prev_action=data.pop("action"),
        carry=agent.rssm.initial(work.batch),
        row=None,
        **data,
    )
    return Update(recipe, cfg, agent, optimizer, rows.to(device))


def trained(agent: Any) -> int:
    """The number of trained parameters, without the slow copy of the critic."""
    return parameters(*(part for name, part in agent.named_children() if name != "slow_value"))


def facts() -> dict[str, Any]:
    """Mode and versions."""
    checked = os.environ.get("JAXTYPING_DISABLE", "0").lower() not in ("1", "true")
    mode = "eager, shapes checked" if checked else "eager"
    return {"mode": mode, "versions": versions("worldblocks", "torch")}


def plain_flops(functions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """FLOPs of the architecture by case.

    Two agents do the same work if their architectures need the same arithmetic, whatever the
    implementation. So every layer is counted by its definition, and timed as it is. A layer whose
    implementation has other arithmetic needs an entry in `DEFINITIONS`; a test keeps the two equal.
    """
    with plain_layers():
        return {case: flops(function) for case, function in functions.items()}


@contextlib.contextmanager
def plain_layers() -> Iterator[None]:
    """Run these layers by their definition inside the context."""
    with contextlib.ExitStack() as stack:
        for kind, forward in DEFINITIONS.items():
            stack.enter_context(patch.object(kind, "forward", forward))
        yield


def padded_convolution(self: layers.Conv2d, input: Tensor) -> Tensor:
    """Explicit padding, with the odd row and column after the image, then the convolution."""
    kernel, stride = self.kernel_size[0], self.stride[0]
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[:1:-1]]
    padded = F.pad(input, [side for pad in pads for side in (pad // 2, pad - pad // 2)])
    return F.conv2d(padded, self.weight, self.bias, self.stride)


def convolve_and_pool(self: layers.PooledConv2d, input: Tensor) -> Tensor:
    """The 5×5 convolution, then the maximum."""
    return F.max_pool2d(F.conv2d(input, self.weight, self.bias, padding=2), 2)


def upsample_and_convolve(self: layers.UpConv2d, input: Tensor) -> Tensor:
    """Nearest ×2, then the 5×5 convolution at the high resolution."""
    return F.conv2d(F.interpolate(input, scale_factor=2.0), self.weight, self.bias, padding=2)


def transposed_convolution(self: layers.ConvTranspose2d, input: Tensor) -> Tensor:
    """The transposed convolution, which does not multiply zeros between the pixels."""
    stride = self.side
    side = input.shape[-1] * stride
    middle = self.weight.shape[-1] // 2
    weight = self.weight.transpose(0, 1).flip(2, 3)
    out = F.conv_transpose2d(input, weight, self.bias, stride=stride, padding=middle - 1)
    return out[..., :side, :side]


DEFINITIONS: dict[Any, Callable[..., Tensor]] = {
    layers.Conv2d: padded_convolution,
    layers.PooledConv2d: convolve_and_pool,
    layers.UpConv2d: upsample_and_convolve,
    layers.ConvTranspose2d: transposed_convolution,
}
