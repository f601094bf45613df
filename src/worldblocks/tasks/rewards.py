"""Rewards of DeepMind Control as functions of features of the physics."""

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

    Each feature is a method of the domain's physics, `*batch repeat`; the reward is the sum over
    the control steps of a row. It equals that of the suite to float32.

    Known are the rewards of the domains `reacher` (from the distance of finger and target) and
    `walker` (from height and uprightness of the torso, and horizontal velocity). For other tasks
    the result is None.

    Source: dm_control, `suite/reacher.py`, `suite/walker.py`, `utils/rewards.py`.

    >>> reach = control_reward("reacher_hard")
    >>> distance = torch.tensor([[0.02, 0.03], [0.02, 0.02]])
    >>> reach.reward({"finger_to_target_dist": distance, "lived": torch.ones(2, 2)})
    tensor([1., 2.])
    """
    return KNOWN.get(task)


def control(task: str, *, relabel: bool = True, **options: Any) -> Environment:
    """An environment of `wb.envs.dmc` with the features that rewards of its body need.

    These are the features of `control_reward`, one number per control step, and those of the body
    (`wb.envs.dmc_features`), which the expressions of `wb.language` use.

    Args:
        task: as in `wb.envs.dmc`.
        relabel: whether to add the features, where known.
        options: options of `wb.envs.dmc`.
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

    It falls as a Gaussian, exp(d² ln(value) / margin²), or linearly to 0. Without a margin it is 0
    outside the bounds.

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
    """Sum over the control steps before the end of the episode."""
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


HEIGHT = 1.2  # of the torso when standing
RADII = {"easy": 0.05 + 0.01, "hard": 0.015 + 0.01}  # radius of the target plus that of the finger
SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 8.0}
TORSO = ("torso_height", "torso_upright", "horizontal_velocity")
KNOWN = {
    f"reacher_{name}": Relabel(("finger_to_target_dist",), functools.partial(_reach, radius=radius))
    for name, radius in RADII.items()
} | {
    f"walker_{name}": Relabel(TORSO, functools.partial(_walk, speed=speed))
    for name, speed in SPEEDS.items()
}
