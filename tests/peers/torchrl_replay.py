"""torchrl's replay buffer with its sampler of slices, as a replay of sequences."""

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import (
    LazyTensorStorage,
    SliceSampler,
    TensorDictReplayBuffer,
    TensorDictRoundRobinWriter,
)

from worldblocks.replay import Batch

FLAGS = {"is_last": "done", "is_terminal": "terminated"}


class TorchRLReplay:
    """A `TensorDictReplayBuffer` whose trajectories are whole streams.

    This follows torchrl's DreamerV3 example: with the stream as trajectory, windows cross the ends
    of episodes, and `init_key=None` leaves the stored flags unchanged.
    """

    def __init__(self, capacity: int, streams: int, length: int, context: int, seed: int) -> None:
        self.streams, self.window, self.context = streams, length + context, context
        kept = capacity // streams + self.window - 1  # rows of a stream
        # 0.14.1 cannot add one row of one stream (shape [1, 1]) to a storage with two axes.
        self.wide = streams > 1
        self.buffer = TensorDictReplayBuffer(
            storage=LazyTensorStorage(kept * streams, ndim=1 + self.wide),
            sampler=SliceSampler(
                slice_len=self.window,
                traj_key="env_index",
                # A window without a stored carry starts with a reset.
                init_key=None if context else "is_init",
                # torchrl marks the end of every slice for value estimators; no episode ends there.
                truncated_key=None,
            ),
            writer=TensorDictRoundRobinWriter(track_generations=True),
            dim_extend=0,
            generator=torch.Generator().manual_seed(seed),
        )

    def __len__(self) -> int:
        """Window starts; torchrl counts rows."""
        rows = len(self.buffer) // self.streams
        return self.streams * max(0, rows - self.window + 1)

    def add(self, obs: Any, prev_action: Tensor, reward: Tensor, carry: Any, **flags: Any) -> None:
        """One row of each stream: time is the first axis of the storage."""
        size = [self.streams]
        after = {"obs": TensorDict(obs, size), "reward": reward[:, None]}
        after |= {theirs: flags[ours][:, None] for ours, theirs in FLAGS.items()}
        row = {
            "env_index": torch.arange(self.streams),
            "is_init": flags["is_first"][:, None],
            "action": prev_action,
            "carry": TensorDict(carry, size),
            "next": TensorDict(after, size),
        }
        rows = TensorDict(row, size)
        self.buffer.extend(rows[None] if self.wide else rows)

    def sample(self, count: int) -> Batch:
        """Windows; the carry comes from the row before them."""
        slices = self.buffer.sample(count * self.window).view(count, self.window)
        self.slices, batch = slices[:, self.context :], slices[:, self.context :]
        after = batch["next"]
        return Batch(
            obs=after["obs"].to_dict(),
            prev_action=batch["action"],
            reward=after["reward"][..., 0],
            is_first=batch["is_init"][..., 0],
            is_last=after["done"][..., 0],
            is_terminal=after["terminated"][..., 0],
            carry=slices["carry"][:, 0].to_dict() if self.context else None,
            row=batch["index"],
        )

    def write_back(self, row: Tensor, carry: Any) -> None:
        """Carries for the rows sampled last; torchrl knows them by index and generation."""
        carry = TensorDict(carry, row.shape[:2])
        self.buffer.update_if_present(
            index=row.flatten(0, 1),
            generation=self.slices["index_generation"].flatten(),
            patch={("carry", key): value.flatten(0, 1) for key, value in carry.items()},
        )

    def save(self, folder: Path) -> dict[str, Any]:
        self.buffer.dumps(folder)
        return {}

    def load(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.buffer.loads(folder)
