"""Gathering batches, the next one in a thread during training on the previous batch."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from worldblocks.replay.batch import Batch, gather_carry, gather_rows
from worldblocks.replay.selectors import Drawn
from worldblocks.replay.storage.rings import Rings
from worldblocks.replay.tree import map_leaves

Gathered = tuple[Batch, torch.cuda.Event | None]  # event: the batch has arrived on the device


class Ahead(NamedTuple):
    """The rows in preparation for the next batch."""

    rings: Rings
    drawn: Drawn
    batch: Future[Gathered]


class Gatherer:
    """Gathers windows on a device.

    Stored rows never change, so a thread may gather them ahead without a lock, and its result does
    not depend on its timing. Carries, which `write_back` changes, are gathered on request. A CUDA
    device receives rows through pinned memory, on a separate stream.
    """

    def __init__(self, length: int, context: int, device: torch.device) -> None:
        self._length, self._context, self._device = length, context, device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: Ahead | None = None

    def batch(self, rings: Rings, drawn: Drawn, carry: Any) -> Batch:
        """The windows drawn, with their current carries; `carry` is the template of a carry.

        Raises:
            RuntimeError: the thread failed; the next call gathers the windows again.
        """
        ahead, self._ahead = self._ahead, None
        if ahead and ahead.rings is rings and _equal(ahead.drawn, drawn):
            rows, arrived = _result(ahead)
        else:
            rows, arrived = self._gather(rings, drawn, self._written())
        if arrived is not None:
            self._use_here(rows, arrived)
        cuda = self._side is not None
        packed = gather_carry(rings, drawn, carry, pin=cuda)
        return rows._replace(carry=packed).to(self._device, non_blocking=cuda)

    def prepare(self, rings: Rings, drawn: Drawn) -> None:
        """Start gathering the rows of the next batch in the thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay-prefetch")
        work = self._thread.submit(self._gather, rings, drawn, self._written())
        self._ahead = Ahead(rings, drawn, work)

    def close(self) -> None:
        """Stop the thread; `prepare` starts another."""
        self._ahead = None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _written(self) -> torch.cuda.Event | None:
        """An event after all rows were written, which happens on the current stream."""
        if self._side is None:
            return None
        return _event(torch.cuda.current_stream(self._device))

    def _gather(self, rings: Rings, drawn: Drawn, written: torch.cuda.Event | None) -> Gathered:
        """Gather rows, and move them to a CUDA device; runs in the thread."""
        if self._side is None or written is None:
            return gather_rows(rings, drawn, self._length, self._context), None
        with torch.cuda.stream(self._side):
            self._side.wait_event(written)
            batch = gather_rows(rings, drawn, self._length, self._context, pin=True)
            return batch.to(self._device, non_blocking=True), _event(self._side)

    def _use_here(self, batch: Batch, arrived: torch.cuda.Event) -> None:
        """Make a batch usable on the current stream."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrived)

        def used_here(name: str, leaf: Any) -> None:
            if name != "batch/row":
                leaf.record_stream(stream)  # keeps the other stream from reusing its memory

        map_leaves(used_here, batch, "batch")


def _equal(drawn: Drawn, other: Drawn) -> bool:
    return all(map(np.array_equal, drawn[:2], other[:2]))


def _result(ahead: Ahead) -> Gathered:
    try:
        return ahead.batch.result()
    except Exception as error:
        raise RuntimeError(
            f"a batch could not be gathered ahead ({type(error).__name__}: {error}); the replay is "
            f"unchanged, and sample() will try the same batch again"
        ) from error


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """An event that marks all work queued on the stream so far."""
    event = torch.cuda.Event()
    event.record(stream)
    return event
