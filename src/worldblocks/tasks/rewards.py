"""Rewards of DeepMind Control as functions of features of its physics."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from worldblocks.envs import BODIES, Environment, dmc, dmc_features
from worldblocks.replay import Relabel
from worldblocks.typing import typed

Feature = Mapping[str, Float32[Tensor, "*batch repeat"]]


def control_reward(task: str) -> Relabel | None:
    """The reward of a task of the DeepMind Control suite from features of `wb.envs.dmc`.

    The features are methods of the domain's physics, `*batch repeat` each; the reward is the sum
    over the control steps of a row. None where it is not known here.

    Known are those of the domains `reacher` (by the distance from finger to target) and `walker`
    (by height and uprightness of the torso and horizontal velocity). They are those of the suite,
    to float32.

    Source: dm_control, `suite/reacher.py`, `suite/walker.py`, `utils/rewards.py`.

    >>> reach = control_reward("reacher_hard")
    >>> distance = torch.tensor([[0.02, 0.03], [0.02, 0.02]])
    >>> reach.reward({"finger_to_target_dist": distance, "lived": torch.ones(2, 2)})
    tensor([1., 2.])
    """
    return KNOWN.get(task)


def control(task: str, *, relabel: bool = True, **options: Any) -> Environment:
    """An environment of `wb.envs.dmc`, with the features that rewards of its body are written in.

    They are those of `control_reward`, one number for each control step, and those of the body as
    `wb.envs.dmc_features` gives them, which expressions of `wb.language` are about.

    Args:
        task: as of `wb.envs.dmc`.
        relabel: whether to give them, as far as they are known.
        options: of `wb.envs.dmc`.
    """
    known = control_reward(task) if relabel else None
    make = dmc_features if relabel and task.split("_")[0] in BODIES else dmc
    return make(task, features=known.features if known else (), **options)


@typed
def tolerance(
    x: Float[Tensor, "*batch"],
    low: float,
    high: float,
    *,
    margin: float = 0.0,
    value: float = 0.1,
    linear: bool = False,
) -> Float[Tensor, "*batch"]:
    """1 between two bounds, falling to `value` at a distance of `margin` from them.

    It falls as a Gaussian, exp(d² ln(value) / margin²), or on a line to 0. Without a margin it is 0
    outside.

    Source: dm_control, `utils/rewards.py`.

    >>> tolerance(torch.tensor([1.0, 2.5, 3.0]), 0.0, 2.0, margin=1.0, value=0.5, linear=True)
    tensor([1.0000, 0.7500, 0.5000])
    """
    distance = torch.maximum(low - x, x - high).clamp(min=0)
    if not margin:
        return (distance == 0).to(x.dtype)
    share = distance / margin
    if linear:
        return (1 - share * (1 - value)).clamp(min=0)
    return torch.exp(share.square() * math.log(value))


def _summed(feature: Feature, each: Float[Tensor, "*batch repeat"]) -> Tensor:
    """Over the control steps that were made."""
    return (each * feature["lived"]).sum(-1)


def _reach(feature: Feature, radius: float) -> Tensor:
    return _summed(feature, tolerance(feature["finger_to_target_dist"], -math.inf, radius))


def _walk(feature: Feature, speed: float) -> Tensor:
    height, upright = feature["torso_height"], feature["torso_upright"]
    standing = tolerance(height, HEIGHT, math.inf, margin=HEIGHT / 2)
    stand = (3 * standing + (1 + upright) / 2) / 4
    if not speed:
        return _summed(feature, stand)
    velocity = feature["horizontal_velocity"]
    options = {"margin": speed / 2, "value": 0.5, "linear": True}
    move = tolerance(velocity, speed, math.inf, **options)
    return _summed(feature, stand * (5 * move + 1) / 6)


HEIGHT = 1.2  # of a torso that stands
RADII = {"easy": 0.05 + 0.01, "hard": 0.015 + 0.01}  # of the target and of the finger
SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 8.0}
TORSO = ("torso_height", "torso_upright", "horizontal_velocity")
KNOWN = {
    f"reacher_{name}": Relabel(("finger_to_target_dist",), functools.partial(_reach, radius=radius))
    for name, radius in RADII.items()
} | {
    f"walker_{name}": Relabel(TORSO, functools.partial(_walk, speed=speed))
    for name, speed in SPEEDS.items()
}
