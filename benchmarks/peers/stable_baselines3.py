"""stable-baselines3: its replay samples single transitions, which is not compared."""

import itertools

import gymnasium
import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer

from benchmarks import data
from benchmarks.stores import Store, measured
from benchmarks.torch_tools import prepare, versions
from benchmarks.work import ACTIONS, IMAGE, PROPRIO, Work
from benchmarks.worker import Timed


def replay(work: Work) -> Timed:
    """Its buffer, observations stored once."""
    prepare(work.threads)
    streams = work.streams

    def make(capacity: int, image: bool) -> Store:
        pixels = gymnasium.spaces.Box(0, 255, IMAGE, np.uint8)
        vector = gymnasium.spaces.Box(-np.inf, np.inf, (PROPRIO,), np.float32)
        box = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)
        kinds = {"optimize_memory_usage": True, "handle_timeout_termination": False}
        buffer = ReplayBuffer(
            capacity, pixels if image else vector, box, device="cpu", n_envs=streams, **kinds
        )
        rows = data.steps(streams, image=image)
        pairs = itertools.cycle(zip(rows, rows[1:] + rows[:1], strict=True))
        infos: list[dict] = [{} for _ in range(streams)]

        def add() -> None:
            row, following = next(pairs)
            flags = row["action"], row["reward"], row["is_terminal"]
            buffer.add(row["obs"], following["obs"], *flags, infos)

        return Store(add)

    note = "single transitions, observations stored once; sampling them is not compared"
    return measured(work, make, note=note, versions=versions("stable-baselines3", "torch"))
