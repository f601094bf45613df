"""flashbax: its trajectory buffer, compiled, its state donated."""

import itertools
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.peers.jax_tools import limit, version
from benchmarks.stores import Store, in_chunks, measured
from benchmarks.work import Work
from benchmarks.worker import Timed


def replay(work: Work) -> Timed:
    """Samples are arrays of JAX."""
    limit(work.threads)
    import flashbax
    import jax

    windows, length = work.sample
    streams = work.streams

    def make(capacity: int, image: bool) -> Store:
        rows = data.steps(streams, image=image)
        buffer = flashbax.make_trajectory_buffer(
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

        return Store(lambda: put(next(upcoming)), sample, in_chunks(streams, image, many))

    note = "arrays of JAX; ignores episode ends"
    versions = {"flashbax": metadata.version("flashbax"), **version()}
    return measured(work, make, mode="jit", note=note, versions=versions)
