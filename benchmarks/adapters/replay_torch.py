"""Replays that hold PyTorch tensors, and the copy that none can do without."""

import itertools
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.adapters import data
from benchmarks.adapters.replay_tools import Store, measured, rows_one_by_one
from benchmarks.adapters.torch_tools import prepare, versions
from benchmarks.timing import Timed
from benchmarks.work import Work


def tensor_rows(work: Work, image: bool) -> list[dict[str, torch.Tensor]]:
    """Rows to add, over and over."""
    rows = data.steps(work.streams, image=image)
    return [{key: torch.as_tensor(value) for key, value in row.items()} for row in rows]


def extend(
    work: Work, image: bool, carry: dict[str, torch.Tensor], take: Callable[[Any], Any]
) -> Callable[[int], None]:
    """`fill` by many rows of each stream at once, `env time ...`, each with its episode."""
    from tensordict import TensorDict

    streams = work.streams

    def fill(count: int) -> None:
        size = data.EPISODE
        numbers = data.stretch(data.steps(streams, image=image), size)
        rows = {key: torch.as_tensor(value).swapaxes(0, 1) for key, value in numbers.items()}
        wide = {
            key: value[:, None].expand(-1, size, *value.shape[1:]) for key, value in carry.items()
        }
        for begin in range(0, count, size):
            end = min(begin + size, count)
            chunk = TensorDict({**rows, **wide}, [streams, size])[:, : end - begin]
            places = [torch.as_tensor(data.episodes(time, streams)) for time in range(begin, end)]
            chunk["episode"] = torch.stack(places, 1)
            take(chunk)

    return fill


def ours(work: Work) -> Timed:
    """worldblocks, without a stored carry: no other library but r2dreamer stores one."""
    prepare(work.threads)
    from worldblocks.replay import SequenceReplay

    windows, length = work.sample

    def make(capacity: int, image: bool) -> Store:
        # The window starts that the replay keeps are fewer than its rows.
        starts = capacity - work.streams * (length - 1)
        replay = SequenceReplay(
            capacity=starts, streams=work.streams, length=length, context=0, online=False
        )
        rows = []
        for row in tensor_rows(work, image):
            kept = {key: row[key] for key in ("reward", "is_first", "is_last", "is_terminal")}
            obs = {"obs": {"it": row["obs"]}, "prev_action": row["action"], "carry": None}
            rows.append({**kept, **obs})
        upcoming = itertools.cycle(rows)

        def add() -> None:
            replay.add(**next(upcoming))

        return Store(add, rows_one_by_one(add), lambda: replay.sample(windows))

    return measured(work, make, versions=versions("worldblocks", "torch"))


def floor(work: Work) -> Timed:
    """The bytes themselves: rows written into arrays, windows copied out of them."""
    prepare(work.threads)
    windows, length = work.sample

    def make(capacity: int, image: bool) -> Store:
        rows, places = tensor_rows(work, image), itertools.count()
        slots = capacity // work.streams
        kept = {
            key: torch.empty(work.streams, slots, *value.shape[1:], dtype=value.dtype)
            for key, value in rows[0].items()
        }

        def add() -> None:
            place = next(places)
            for key, value in rows[place % len(rows)].items():
                kept[key][:, place % slots] = value

        def sample() -> dict[str, torch.Tensor]:
            start = torch.randint(slots - length + 1, (windows,)).tolist()
            stream = torch.randint(work.streams, (windows,)).tolist()
            found = {}
            for key, ring in kept.items():
                out = ring.new_empty(windows, length, *ring.shape[2:])
                for window, (one, begin) in enumerate(zip(stream, start, strict=True)):
                    out[window] = ring[one, begin : begin + length]
                found[key] = out
            return found

        return Store(add, rows_one_by_one(add), sample)

    note = "contiguous slices into fresh tensors; no index, no checks, no episode ends"
    return measured(work, make, note=note, versions=versions("torch"))


def torchrl(work: Work, kind: str) -> Timed:
    """torchrl's buffer with its sampler of slices."""
    prepare(work.threads)
    from tensordict import TensorDict
    from torchrl.data import LazyMemmapStorage, LazyTensorStorage, ReplayBuffer, SliceSampler

    windows, length = work.sample
    streams = work.streams

    def storage(capacity: int) -> Any:
        if kind == "tensor":
            return LazyTensorStorage(capacity, ndim=2)
        return LazyMemmapStorage(capacity, ndim=2, scratch_dir=tempfile.mkdtemp(dir="."))

    def make(capacity: int, image: bool) -> Store:
        sampler = SliceSampler(num_slices=windows, traj_key="episode", strict_length=True)
        buffer = ReplayBuffer(
            storage=storage(capacity), sampler=sampler, batch_size=windows * length
        )
        rows, places = tensor_rows(work, image), itertools.count(capacity // streams)
        ready = [TensorDict(row, [streams]).unsqueeze(1) for row in rows]

        def add() -> None:
            place = next(places)
            row = ready[place % len(ready)]
            row["episode"] = torch.as_tensor(data.episodes(place, streams))[:, None]
            buffer.extend(row)

        def sample() -> Any:
            return buffer.sample().view(windows, length)

        return Store(add, extend(work, image, {}, buffer.extend), sample)

    note = {"tensor": "LazyTensorStorage", "memmap": "LazyMemmapStorage; mapped pages count"}[kind]
    known = versions("torchrl", "tensordict", "torch")
    return measured(work, make, note=f"{note}, SliceSampler", versions=known)


def r2dreamer(work: Work, repo: str) -> Timed:
    """r2dreamer's buffer, on torchrl's."""
    import sys
    import types

    prepare(work.threads)
    sys.path.insert(0, repo)
    from buffer import Buffer
    from tensordict import TensorDict

    windows, length = work.sample
    streams, sizes = work.streams, work.sizes

    def make(capacity: int, image: bool) -> Store:
        device = {"device": "cpu", "storage_device": "cpu", "max_size": capacity}
        size = {"batch_size": windows, "batch_length": length}
        buffer = Buffer(types.SimpleNamespace(**device, **size))
        # A carry is stored with each row of an agent; it would outweigh a vector observation.
        carry = {"stoch": torch.zeros(streams, 32, sizes["classes"])}
        carry["deter"] = torch.zeros(streams, sizes["deter"])
        rows, places = tensor_rows(work, image), itertools.count(capacity // streams)
        ready = [TensorDict({**row, **carry}, [streams]) for row in rows]

        def add() -> None:
            place = next(places)
            row = ready[place % len(ready)]
            row["episode"] = torch.as_tensor(data.episodes(place, streams))
            buffer.add_transition(row)

        return Store(add, extend(work, image, carry, buffer._buffer.extend), buffer.sample)

    note = "stores a carry with each row, as it must"
    return measured(work, make, note=note, versions=versions("torchrl", "tensordict", "torch"))
