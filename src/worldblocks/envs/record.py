"""The protocol of an environment, its rows before and after the vector, and checks of them."""

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor

from worldblocks.envs.errors import described
from worldblocks.spaces import Actions, Continuous, Discrete, Grid, Space, Spaces

_LARGEST = float(np.finfo(np.float32).max)


class Step(NamedTuple):
    """One row of one environment: an observation, and the reward and flags that came with it.

    `is_first` marks the row of a reset (its reward is 0). `is_last` ends an episode. Without
    `is_terminal` it is a time limit: the return bootstraps from the value of the last state.
    """

    obs: dict[str, np.ndarray]
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool


class NotRestored(RuntimeError):
    """A saved state did not restore the environment."""


class Environment(Protocol):
    """One environment: spaces by key, seeded resets and, if supported, its exact state as bytes."""

    @property
    def observation(self) -> Spaces:
        """The spaces of an observation."""
        ...

    @property
    def action(self) -> Actions:
        """The spaces of an action."""
        ...

    def reset(self, seed: int) -> Step:
        """Begin an episode whose randomness depends only on `seed`; returns its `is_first` row."""
        ...

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do the action of each key (see `worldblocks.spaces.split_action`)."""
        ...

    def get_state(self) -> bytes | None:
        """The complete state, or None: then a vector re-enacts the episode."""
        ...

    def set_state(self, state: bytes) -> None:
        """Continue from `get_state()`, in any process.

        Raises:
            NotRestored: the environment did not return to the saved state.
        """
        ...

    def close(self) -> None:
        """Release the resources of the simulator."""
        ...


class Rows(NamedTuple):
    """One row of every environment, environment first; row t as in `docs/concepts/time.md`.

    All tensors are on the device of the vector, and the names are those of `wb.replay.Batch`: a
    recipe stores a row by `replay.add(**rows._asdict(), carry=carry)`.

    Attributes:
        obs: one tensor per key: `env height width channel` uint8 for an image or a grid,
            `env ...` float32 or int64 for the rest.
        prev_action: the flat action that the vector was given before these rows; zeros after
            `reset`. At an automatic reset it is the action that was ignored.
    """

    obs: dict[str, Shaped[Tensor, "env ..."]]
    prev_action: Float32[Tensor, "env action"]
    reward: Float32[Tensor, " env"]
    is_first: Bool[Tensor, " env"]
    is_last: Bool[Tensor, " env"]
    is_terminal: Bool[Tensor, " env"]


class Episode(NamedTuple):
    """A finished episode: its environment, the sum of its rewards, its number of actions."""

    env: int
    score: float
    length: int


def stack(
    steps: list[Step], keys: Iterable[str], prev_action: Float32[Tensor, "env action"]
) -> Rows:
    """One row of every environment as tensors, the observations in the order of `keys`."""
    flags = ("is_first", "is_last", "is_terminal")
    return Rows(
        obs={key: torch.from_numpy(np.stack([step.obs[key] for step in steps])) for key in keys},
        prev_action=prev_action,
        reward=torch.tensor([step.reward for step in steps], dtype=torch.float32),
        **{name: torch.tensor([getattr(step, name) for step in steps]) for name in flags},
    )


def unstack(rows: Rows) -> list[Step]:
    """The row of each environment, from `stack`."""
    columns = [column.tolist() for column in rows[2:]]
    return [
        Step({key: value[i].numpy() for key, value in rows.obs.items()}, *row)
        for i, row in enumerate(zip(*columns, strict=True))
    ]


def check_step(where: str, step: Step, observation: Spaces, begins: bool) -> None:
    """Raise unless a row matches its space and is finite; `where` begins the message.

    `begins` says that the row was asked for by a reset.
    """
    if getattr(step, "_fields", None) != Step._fields or not hasattr(step.obs, "keys"):
        raise ValueError(
            f"{where} gave {described(step)}; a row is a wb.envs.Step, its observation a dict"
        )
    if step.obs.keys() != observation.keys():
        raise ValueError(
            f"{where} gave the observations {sorted(step.obs)}; its space has {sorted(observation)}"
        )
    if not isinstance(step.reward, Real) or not abs(step.reward) <= _LARGEST:
        raise ValueError(
            f"{where} gave the reward {described(step.reward)}; a reward is one finite float32"
        )
    for name in ("is_first", "is_last", "is_terminal"):
        if not isinstance(getattr(step, name), bool | np.bool_):
            raise ValueError(
                f"{where} gave {name} as {described(getattr(step, name))}; a flag is True or False"
            )
    if step.is_first != begins:
        raise ValueError(
            f"{where} gave is_first={step.is_first} at a {'reset' if begins else 'step'}; is_first "
            f"marks the row of a reset, and the vector resets after is_last by itself"
        )
    for key, space in observation.items():
        _check_value(where, key, space, step.obs[key])


def _check_value(where: str, key: str, space: Space, value: Any) -> None:
    dtype = _dtype(space)
    if getattr(value, "shape", None) != space.shape or value.dtype != dtype:
        raise ValueError(
            f"{where} gave {key!r} as {described(value)}; its space {space} is "
            f"{dtype}{list(space.shape)}"
        )
    if isinstance(space, Continuous) and not np.isfinite(value).all():
        wrong = np.asarray(value)[~np.isfinite(value)].flat[0]
        raise ValueError(
            f"{where} gave NaN or inf in {key!r} ({wrong}), whose space is {space}; an observation "
            f"is finite, also as float32"
        )
    # As unsigned numbers, negative classes are large.
    if (isinstance(space, Discrete) and value.view(np.uint64).max() >= space.classes) or (
        isinstance(space, Grid) and value.max() >= space.classes
    ):
        raise ValueError(
            f"{where} gave {key!r} as {described(value)}, outside its space {space}; classes count "
            f"from 0 to {space.classes - 1}"
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


def saved_rows(saved: Mapping[str, Any], count: int, size: int, observation: Spaces) -> Rows:
    """Rows from a state; raise unless they match the observations of `count` environments.

    Those saved before rows had a `prev_action` get zeros.
    """
    none = {"prev_action": torch.zeros(count, size)}
    rows = Rows(**{**none, **saved, "obs": dict(saved["obs"])})
    given = {key: _describe(value) for key, value in rows.obs.items()}
    wanted = {k: f"{_dtype(s)}{[count, *s.shape]}" for k, s in observation.items()}
    if given != wanted:
        raise ValueError(
            f"EnvVector was asked to continue from rows of {given}; its environments give {wanted}"
        )
    return rows


def _dtype(space: Any) -> np.dtype:
    if isinstance(space, Continuous):
        return np.dtype(np.float32)
    return np.dtype(np.int64 if isinstance(space, Discrete) else np.uint8)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
