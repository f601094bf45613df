"""Replays that hold NumPy or JAX arrays; a sample ends in tensors, JAX's in arrays of its own."""

import itertools
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.adapters import data
from benchmarks.adapters.replay_tools import CHUNK, Store, measured, rows_one_by_one
from benchmarks.timing import Timed
from benchmarks.work import ACTIONS, IMAGE, PROPRIO, Work


def in_chunks(streams: int, image: bool, add: Callable[[dict[str, np.ndarray]], Any]) -> Any:
    """`fill` of a library that takes many rows, `time env ...`, at once."""

    def fill(count: int) -> None:
        rows = data.steps(streams, image=image)
        size = data.EPISODE if image else CHUNK
        chunk = data.stretch(rows, size)
        for begin in range(0, count, size):
            add({key: value[: min(size, count - begin)] for key, value in chunk.items()})

    return fill


def sheeprl(work: Work) -> Timed:
    """sheeprl's sequential buffers, one for each environment."""
    from sheeprl.data.buffers import EnvIndependentReplayBuffer, SequentialReplayBuffer

    from benchmarks.adapters.torch_tools import prepare, versions

    prepare(work.threads)
    windows, length = work.sample
    streams = work.streams

    def column(value: np.ndarray) -> np.ndarray:
        return value if value.ndim > 2 else value[..., None]

    def make(capacity: int, image: bool) -> Store:
        buffer = EnvIndependentReplayBuffer(
            capacity // streams, n_envs=streams, buffer_cls=SequentialReplayBuffer
        )
        rows = [
            {key: column(value[None]) for key, value in row.items()}
            for row in data.steps(streams, image=image)
        ]
        upcoming = itertools.cycle(rows)

        def add() -> None:
            buffer.add(next(upcoming), validate_args=False)

        def many(chunk: dict[str, np.ndarray]) -> None:
            buffer.add({key: column(value) for key, value in chunk.items()}, validate_args=False)

        def sample() -> Any:
            drawn = {"sequence_length": length, "n_samples": 1, "from_numpy": True}
            return buffer.sample_tensors(windows, **drawn)

        return Store(add, in_chunks(streams, image, many), sample)

    return measured(work, make, versions=versions("sheeprl", "torch"))


def cpprb(work: Work) -> Timed:
    """cpprb, which has no sequences: indices made by hand and its inner gather."""
    import cpprb as library
    import torch

    from benchmarks.adapters.torch_tools import prepare, versions

    prepare(work.threads)
    windows, length = work.sample
    streams, generator = work.streams, np.random.default_rng(1)

    def make(capacity: int, image: bool) -> Store:
        shape = {"shape": IMAGE, "dtype": np.uint8} if image else {"shape": PROPRIO}
        fields = {"obs": shape, "action": {"shape": ACTIONS}, "reward": {}}
        fields |= {key: {"dtype": bool} for key in ("is_first", "is_last", "is_terminal")}
        buffer = library.ReplayBuffer(capacity, fields)
        upcoming = itertools.cycle(data.steps(streams, image=image))

        def add() -> None:
            buffer.add(**next(upcoming))

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

        return Store(add, in_chunks(streams, image, many), sample)

    note = "no sequences: indices by hand, its inner gather, episode ends not marked"
    return measured(work, make, note=note, versions=versions("cpprb", "torch"))


def flashbax(work: Work) -> Timed:
    """flashbax's trajectory buffer, compiled, its state donated."""
    from benchmarks.adapters.jax_tools import limit, version

    limit(work.threads)
    import flashbax as library
    import jax

    windows, length = work.sample
    streams = work.streams

    def make(capacity: int, image: bool) -> Store:
        rows = data.steps(streams, image=image)
        buffer = library.make_trajectory_buffer(
            add_batch_size=streams,
            sample_batch_size=windows,
            sample_sequence_length=length,
            period=1,
            min_length_time_axis=length,
            max_length_time_axis=capacity // streams,
        )
        one = {key: jax.numpy.asarray(value[0]) for key, value in rows[0].items()}
        held = {"state": buffer.init(one), "key": jax.random.PRNGKey(0)}
        adding = jax.jit(buffer.add, donate_argnums=0)
        sampling = jax.jit(buffer.sample)
        ready = [{key: value[:, None] for key, value in row.items()} for row in rows]
        upcoming = itertools.cycle(ready)

        def put(row: dict[str, Any]) -> None:
            held["state"] = adding(held["state"], row)
            jax.block_until_ready(held["state"])

        def many(chunk: dict[str, np.ndarray]) -> None:
            put({key: np.swapaxes(value, 0, 1) for key, value in chunk.items()})

        def sample() -> Any:
            held["key"], key = jax.random.split(held["key"])
            return jax.block_until_ready(sampling(held["state"], key).experience)

        return Store(lambda: put(next(upcoming)), in_chunks(streams, image, many), sample)

    note = "arrays of JAX; ignores episode ends"
    versions = {"flashbax": metadata.version("flashbax"), **version()}
    return measured(work, make, mode="jit", note=note, versions=versions)


def stable_baselines3(work: Work) -> Timed:
    """stable-baselines3's, which samples single transitions: that is not compared."""
    import gymnasium
    from stable_baselines3.common.buffers import ReplayBuffer

    from benchmarks.adapters.torch_tools import prepare, versions

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

        return Store(add, rows_one_by_one(add), None)

    note = "single transitions, observations stored once; sampling them is not compared"
    return measured(work, make, note=note, versions=versions("stable-baselines3", "torch"))


def official(work: Work, repo: str) -> Timed:
    """The authors' replay; its samples are NumPy arrays."""
    import sys

    sys.path.insert(0, repo)
    from embodied.core.replay import Replay

    from benchmarks.adapters.checkout import commit

    windows, length = work.sample

    def make(capacity: int, image: bool) -> Store:
        replay = Replay(
            length=length, capacity=capacity, directory=None, chunksize=1024, online=False, seed=0
        )
        upcoming = itertools.cycle(data.steps(work.streams, image=image))

        def add() -> None:
            row = next(upcoming)
            for stream in range(work.streams):
                replay.add({key: value[stream] for key, value in row.items()}, worker=stream)

        return Store(add, rows_one_by_one(add), lambda: replay.sample(windows))

    note = "samples are NumPy arrays"
    return measured(work, make, note=note, versions={"dreamerv3": commit(repo)})
