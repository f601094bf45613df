"""The one record every environment is adapted to, before and behind the vector."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped
from torch import Tensor

from worldblocks.spaces import Actions, Spaces


class Step(NamedTuple):
    """What one environment gives at one moment: an observation and what arrived with it.

    `is_first` marks the row of a reset (its reward is 0). `is_last` ends an episode; without
    `is_terminal` that is a time limit, and the state it stopped in is still worth something.
    """

    obs: dict[str, np.ndarray]
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool


class NotRestored(RuntimeError):
    """A saved state did not bring the environment back to where it was."""


class Environment(Protocol):
    """One environment: spaces by key, seeded resets and, where it can, its exact state as bytes."""

    @property
    def observation(self) -> Spaces:
        """What an observation is made of."""
        ...

    @property
    def action(self) -> Actions:
        """What an action is made of."""
        ...

    def reset(self, seed: int) -> Step:
        """Begin an episode whose randomness follows from `seed`; gives its `is_first` row."""
        ...

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Do the action of each key (see `worldblocks.spaces.split_action`)."""
        ...

    def get_state(self) -> bytes | None:
        """Everything the future depends on, or None: then a vector re-enacts the episode."""
        ...

    def set_state(self, state: bytes) -> None:
        """Continue from `get_state()`, in any process.

        Raises:
            NotRestored: the environment is not where it was when the state was taken.
        """
        ...

    def close(self) -> None:
        """Release what the simulator holds."""
        ...


class Rows(NamedTuple):
    """One row of every environment, environment first; row t as in `docs/concepts/time.md`.

    `obs` holds a tensor per key: `env height width channel` uint8 for an image, `env ...` float32
    or int64 for the rest.
    """

    obs: dict[str, Shaped[Tensor, "env ..."]]
    reward: Float32[Tensor, " env"]
    is_first: Bool[Tensor, " env"]
    is_last: Bool[Tensor, " env"]
    is_terminal: Bool[Tensor, " env"]


class Episode(NamedTuple):
    """A finished episode: its environment, the sum of its rewards, its number of actions."""

    env: int
    score: float
    length: int


def repeated(last: Step, is_first: bool) -> Step:
    """What failed shows its last observation once more, and its episode ends."""
    return Step(last.obs, reward=0.0, is_first=is_first, is_last=True, is_terminal=False)


def stack(steps: list[Step], keys: Iterable[str]) -> Rows:
    """One row of every environment as tensors, the observations in the order of `keys`."""
    flags = ("is_first", "is_last", "is_terminal")
    return Rows(
        obs={key: torch.from_numpy(np.stack([step.obs[key] for step in steps])) for key in keys},
        reward=torch.tensor([step.reward for step in steps], dtype=torch.float32),
        **{name: torch.tensor([getattr(step, name) for step in steps]) for name in flags},
    )


def unstack(rows: Rows) -> list[Step]:
    """The row of each environment again."""
    columns = [column.tolist() for column in rows[1:]]
    return [
        Step({key: value[i].numpy() for key, value in rows.obs.items()}, *row)
        for i, row in enumerate(zip(*columns, strict=True))
    ]
