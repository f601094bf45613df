"""Episodes of a replay: how they are added at once and read back."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from worldblocks._wrong_call import described
from worldblocks.replay.batch import Batch
from worldblocks.replay.storage.layout import FIXED
from worldblocks.replay.storage.rings import Rings
from worldblocks.replay.tree import map_leaves


def checked_episode(episode: Batch) -> Batch:
    """The rows of an episode, `time ...`, with `is_first` at row 0 and nowhere else.

    Raises:
        ValueError: there is no row, or a row in the middle begins or ends an episode.
    """
    for name in ("reward", "is_first", "is_last"):
        value = getattr(episode, name)
        if not isinstance(value, Tensor) or value.ndim != 1 or not len(value):
            raise ValueError(
                f"an episode has tensors with the axes `time ...` and at least one row, got "
                f"{name} as {described(value)}; add the episodes of a batch one by one, and arrays "
                f"by torch.from_numpy"
            )
    flags = {"is_first": episode.is_first[1:], "is_last": episode.is_last[:-1]}
    for name, flag in flags.items():
        if flag.any():
            place = int(flag.nonzero()[0, 0]) + (name == "is_first")
            raise ValueError(
                f"an episode of {len(episode.reward)} rows has {name} at row {place}; only row 0 "
                f"is `is_first` and only the last row `is_last`: split it there, and add each "
                f"episode"
            )
    is_first = episode.is_first.clone()
    is_first[0] = True
    return episode._replace(is_first=is_first)


def stored_episodes(rings: Rings, carry: Any) -> Iterator[Batch]:
    """The stored rows, one episode after the other; `carry` is the template of a carry.

    Raises:
        RuntimeError: a row was overwritten between two episodes.
    """
    stored = rings.stored
    for stream in range(rings.streams):
        time = np.arange(stored.oldest[stream], stored.count[stream])
        begins, ends = (
            rings.read(name, _same(stream, time), time).numpy().nonzero()[0]
            for name in ("is_first", "is_last")
        )
        edges = sorted({0, *begins.tolist(), *(ends + 1).tolist(), len(time)})
        for start, stop in itertools.pairwise(edges):
            if rings.stored.oldest[stream] > time[start]:
                raise RuntimeError(
                    "rows that episodes() was about to read were overwritten, since rows were "
                    "added between two episodes; read them first: list(replay.episodes())"
                )
            episode = _rows(rings, stream, time[start:stop], carry)
            if stop < len(time):  # another episode follows, so this one has ended
                episode.is_last[-1] = True
            yield episode


def _rows(rings: Rings, stream: int, time: np.ndarray, template: Any) -> Batch:
    def read(name: str) -> Shaped[Tensor, "time ..."]:
        return rings.read(name, _same(stream, time), time)

    observed = [name for name in rings.layout if name.startswith("obs/")]
    return Batch(
        obs={name.removeprefix("obs/"): read(name) for name in observed},
        carry=map_leaves(lambda _, name: read(name), template, "carry"),
        row=torch.from_numpy(time * rings.streams + stream),
        **{name: read(name) for name in FIXED},
    )


def _same(stream: int, time: np.ndarray) -> np.ndarray:
    return np.full(len(time), stream)
