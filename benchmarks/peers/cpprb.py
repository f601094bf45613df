"""cpprb, which has no sequences: indices made by hand and its inner gather."""

import itertools
from typing import Any

import cpprb
import numpy as np
import torch

from benchmarks import data
from benchmarks.stores import Store, in_chunks, measured
from benchmarks.torch_tools import prepare, versions
from benchmarks.work import ACTIONS, IMAGE, PROPRIO, Work
from benchmarks.worker import Timed


def replay(work: Work) -> Timed:
    """Its buffer, rows of all streams side by side."""
    prepare(work.threads)
    windows, length = work.sample
    streams, generator = work.streams, np.random.default_rng(1)

    def make(capacity: int, image: bool) -> Store:
        shape = {"shape": IMAGE, "dtype": np.uint8} if image else {"shape": PROPRIO}
        fields = {"obs": shape, "action": {"shape": ACTIONS}, "reward": {}}
        fields |= {key: {"dtype": bool} for key in ("is_first", "is_last", "is_terminal")}
        buffer = cpprb.ReplayBuffer(capacity, fields)
        upcoming = itertools.cycle(data.steps(streams, image=image))

        def many(chunk: dict[str, np.ndarray]) -> None:
            buffer.add(**{key: value.reshape(-1, *value.shape[2:]) for key, value in chunk.items()})

        def sample() -> Any:
            rows = buffer.get_stored_size() // streams
            start = generator.integers(0, rows - length + 1, windows)
            stream = generator.integers(0, streams, windows)
            index = ((start[:, None] + np.arange(length)) * streams + stream[:, None]).ravel()
            gathered = buffer._encode_sample(index)
            return {
                key: torch.from_numpy(value).view(windows, length, *value.shape[1:])
                for key, value in gathered.items()
            }

        add = lambda: buffer.add(**next(upcoming))  # noqa: E731
        return Store(add, sample, in_chunks(streams, image, many))

    note = "no sequences: indices by hand, its inner gather, episode ends not marked"
    return measured(work, make, note=note, versions=versions("cpprb", "torch"))
