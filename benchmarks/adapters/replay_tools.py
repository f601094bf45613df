"""What the adapters of replays share: a store is filled with images, another with vectors."""

import ctypes
import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.adapters.data import bytes_of_step
from benchmarks.timing import Timed
from benchmarks.work import Work

MIB = 2**20
CHUNK = 1000  # rows that are added at once where a library can


@dataclass
class Store:
    """One replay, built and empty.

    Attributes:
        add: one row of every stream.
        fill: so many rows of every stream, as quickly as the library can.
        sample: windows as tensors; None where it has no sequences.
    """

    add: Callable[[], Any]
    fill: Callable[[int], Any]
    sample: Callable[[], Any] | None


def rows_one_by_one(add: Callable[[], Any]) -> Callable[[int], None]:
    """`fill` of a library that takes one row at a time."""

    def fill(count: int) -> None:
        for _ in range(count):
            add()

    return fill


def resident() -> float:
    """Bytes of memory that the process holds, free memory given back to the system first."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    with open("/proc/self/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])


def measured(
    work: Work, make: Callable[[int, bool], Store], *, note: str = "", **known: Any
) -> Timed:
    """Fill a store of vectors and one of images; add to both, full as they are, sample the second.

    `make(capacity, image)` builds a store for so many steps of all streams together.
    """
    grown = {}
    kept = []  # memory that is held is not given to the next store
    for image, steps in ((False, work.proprio_steps), (True, work.image_steps)):
        rows = steps // work.streams
        warm_up(work, make, image)
        before = resident()
        store = make(rows * work.streams, image)
        store.fill(rows)
        name = "memory_image" if image else "memory_proprio"
        grown[name] = (resident() - before) / MIB
        kept.append(store)
    payload = work.image_steps * bytes_of_step(image=True) / MIB
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


def warm_up(work: Work, make: Callable[[int, bool], Store], image: bool) -> None:
    """A small store, used and dropped: what is made once, whatever the size, is not counted."""
    rows = 2 * work.sample[1]
    store = make(rows * work.streams, image)
    store.fill(rows)
    if store.sample:
        store.sample()
