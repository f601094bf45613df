"""Checks that actions, rows and saved rows of an `EnvVector` match its spaces."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from worldblocks.envs.record import Rows, Step
from worldblocks.spaces import Continuous, Discrete, Spaces


def check_same_spaces(spaces: list[tuple[dict, dict]]) -> None:
    """Raise unless all (observation, action) are equal to the first."""
    for i, given in enumerate(spaces):
        if given != spaces[0]:
            raise ValueError(
                f"environment {i} has observation {given[0]} and action {given[1]}, "
                f"environment 0 has {spaces[0][0]} and {spaces[0][1]}; "
                f"the environments of one EnvVector have the same"
            )


def check_action(action: Tensor, count: int, size: int) -> Float32[Tensor, "env action"]:
    """A copy of the actions on the host; raise unless they are float32 and finite."""
    if action.shape != (count, size) or action.dtype != torch.float32:
        raise ValueError(
            f"EnvVector got actions {_describe(action)}; its {count} environments take "
            f"float32[{count}, {size}]"
        )
    copied = action.detach().to("cpu", copy=True)
    if not np.isfinite(copied.numpy()).all():
        raise ValueError("EnvVector got an action with NaN or inf; it takes finite numbers")
    return copied


def check_step(where: str, step: Step, observation: Spaces) -> None:
    """Raise unless a row matches its space and is finite; `where` begins the message."""
    if step.obs.keys() != observation.keys():
        raise ValueError(
            f"{where} gave the observations {sorted(step.obs)}; its space has {sorted(observation)}"
        )
    if not math.isfinite(step.reward):
        raise ValueError(f"{where} gave the reward {step.reward}; a reward is finite")
    for key, space in observation.items():
        value = step.obs[key]
        dtype = _dtype(space)
        if value.shape != space.shape or value.dtype != dtype:
            raise ValueError(
                f"{where} gave {key!r} as {value.dtype}{list(value.shape)}; its space "
                f"{space} is {dtype}{list(space.shape)}"
            )
        if isinstance(space, Continuous) and not np.isfinite(value).all():
            raise ValueError(f"{where} gave NaN or inf in {key!r}; an observation is finite")


def check_layout(rows: Rows, count: int, observation: Spaces) -> None:
    """Raise unless saved rows match the observations of `count` environments."""
    given = {key: _describe(value) for key, value in rows.obs.items()}
    wanted = {k: f"{_dtype(s)}{[count, *s.shape]}" for k, s in observation.items()}
    if given != wanted:
        raise ValueError(
            f"EnvVector was asked to continue from rows of {given}; its environments give {wanted}"
        )


def _dtype(space: Any) -> np.dtype:
    if isinstance(space, Continuous):
        return np.dtype(np.float32)
    return np.dtype(np.int64 if isinstance(space, Discrete) else np.uint8)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
