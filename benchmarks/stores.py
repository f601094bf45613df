"""How a replay is measured: one store is filled with images, another with vectors."""

import ctypes
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.work import Work
from benchmarks.worker import Timed

MIB = 2**20
CHUNK = 1000  # rows added at once if a library can


@dataclass
class Store:
    """One replay, built and empty.

    Attributes:
        add: one row of every stream.
        sample: windows as tensors; None if it has no sequences.
        many: adds that number of rows of every stream as fast as the library can; by default one
            at a time.
    """

    add: Callable[[], Any]
    sample: Callable[[], Any] | None = None
    many: Callable[[int], Any] | None = None

    def fill(self, count: int) -> None:
        """Add `count` rows of every stream."""
        if self.many is not None:
            self.many(count)
            return
        for _ in range(count):
            self.add()


def measured(
    work: Work, make: Callable[[int, bool], Store], *, note: str = "", **known: Any
) -> Timed:
    """Fill a store of vectors and one of images; add to both when full, and sample the second.

    `make(capacity, image)` builds a store for that number of steps of all streams together.
    """
    grown = {}
    kept = []  # so that the next store cannot reuse their memory
    for image, steps in ((False, work.proprio_steps), (True, work.image_steps)):
        rows, few = steps // work.streams, 2 * work.sample[1]
        # A small store, used and dropped first: one-time allocations are not counted.
        small = make(few * work.streams, image)
        small.fill(few)
        if small.sample:
            small.sample()
        del small
        before = resident()
        store = make(rows * work.streams, image)
        store.fill(rows)
        name = "memory_image" if image else "memory_proprio"
        grown[name] = (resident() - before) / MIB
        kept.append(store)
    payload = work.image_steps * data.bytes_of_step(image=True) / MIB
    vectors, images = kept
    functions = {"add": images.add, "add_proprio": vectors.add}
    functions |= {"sample": images.sample} if images.sample else {}
    return Timed(
        functions=functions,
        values=grown,
        per=dict.fromkeys(("add", "add_proprio"), work.streams),
        note="; ".join(filter(None, [note, f"{payload:.0f} MiB of image rows"])),
        **known,
    )


def resident() -> float:
    """Resident memory of the process in bytes, after returning free memory to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    with open("/proc/self/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])


def tensor_rows(work: Work, image: bool) -> list[dict[str, Any]]:
    """Rows of tensors, which are added repeatedly."""
    import torch

    rows = data.steps(work.streams, image=image)
    return [{key: torch.as_tensor(value) for key, value in row.items()} for row in rows]


def in_chunks(
    streams: int, image: bool, add: Callable[[dict[str, np.ndarray]], Any]
) -> Callable[[int], None]:
    """`many` for a library that takes many rows at once, `time env ...`."""

    def fill(count: int) -> None:
        rows = data.steps(streams, image=image)
        size = data.EPISODE if image else CHUNK
        chunk = data.stretch(rows, size)
        for begin in range(0, count, size):
            add({key: value[: min(size, count - begin)] for key, value in chunk.items()})

    return fill


def in_episodes(
    work: Work, image: bool, carry: dict[str, Any], add: Callable[[Any], Any]
) -> Callable[[int], None]:
    """`many` for a library on tensordicts, `env time ...`, with episode and carry per row."""
    import torch
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
            add(chunk)

    return fill
