"""The protocol of an environment, and its rows before and after the vector."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor

from worldblocks.spaces import Actions, Spaces


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
        obs: one tensor per key: `env height width channel` uint8 for an image, `env ...` float32
            or int64 for the rest.
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
