"""Prefetching: gathers and moves the next batch during training on the current one."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from worldblocks.replay.batch import Batch, gather_carry, gather_rows
from worldblocks.replay.rings import Rings
from worldblocks.replay.selectors import Drawn
from worldblocks.replay.sequence import SequenceReplay
from worldblocks.replay.storage import check_device
from worldblocks.replay.tree import map_leaves

Gathered = tuple[Batch, torch.cuda.Event | None]  # event: the batch has arrived on the device


class Ahead(NamedTuple):
    """The batch in preparation for the next `sample`."""

    rings: Rings
    drawn: Drawn
    batch: Future[Gathered]


class Prefetch:
    """Batches of a replay on a device, gathered by a thread during training on the previous batch.

    The windows of a batch are drawn when the previous batch is returned, so new experience enters
    training one batch later. Stored rows never change, so the thread needs no lock and its result
    does not depend on its timing. Windows evicted in the meantime are drawn again. Carries, which
    `write_back` changes, are gathered when the batch is returned. The windows drawn ahead are part
    of the state of the replay, so `save` and `load` continue with the same batches.

    With `ahead=False`, the default without CUDA, a batch is drawn and gathered on request, as by
    `SequenceReplay.sample`.

    The replay can be used as before, but training batches must come from a single `Prefetch`. The
    thread may allocate memory while a CUDA graph is captured: capture with
    `capture_error_mode="thread_local"`.

    Args:
        replay: the replay to sample.
        batch_size: number of windows in a batch.
        device: device of the batches. They are copied to a CUDA device through pinned memory, on a
            separate stream.
        ahead: whether a thread gathers ahead; by default only for a CUDA device.

    Raises:
        ValueError: this machine has no such device.
    """

    def __init__(
        self,
        replay: SequenceReplay,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
        ahead: bool | None = None,
    ) -> None:
        check_device("batches cannot be moved to", device)
        self.replay = replay
        self.batch_size = batch_size
        self._device = torch.device(device)
        self._side = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._wanted = self._device.type == "cuda" if ahead is None else ahead
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay-prefetch")
        self._closed = False
        self._ahead: Ahead | None = None

    def sample(self) -> Batch:
        """The next batch, `batch time ...` on the device, all but `row`.

        Raises:
            ValueError: there is no window yet, or there can never be one.
            RuntimeError: the thread failed or is closed. No batch is lost.
        """
        if self._closed:
            raise RuntimeError("sample() was called on a closed Prefetch; create a new one")
        replay = self.replay
        rings = replay._drawable(self.batch_size, replay.length)
        ahead = self._gathering(rings)
        self._ahead = None  # if gathering failed, the next call gathers these windows again
        batch = self._received(ahead)
        cuda = self._side is not None
        carry = gather_carry(rings, ahead.drawn, replay._carry, pin=cuda)
        batch = batch._replace(carry=carry).to(self._device, non_blocking=cuda)
        replay._selector.clear_ahead()
        if self._wanted:
            self._ahead = self._gathering(rings)
        return batch

    def close(self) -> None:
        """Stop the thread. The replay remains usable."""
        self._closed, self._ahead = True, None
        self._thread.shutdown()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _gathering(self, rings: Rings) -> Ahead:
        """Start gathering the next batch, or return the one in preparation if it is still valid."""
        draw = self.replay._selector.draw_ahead
        drawn = draw(self.batch_size, *rings.stored, self.replay.online)
        ahead = self._ahead
        if ahead and ahead.rings is rings and np.array_equal(ahead.drawn, drawn):
            return ahead
        stored = None
        if self._side is not None:  # rows on the device are written on the current stream
            stored = _event(torch.cuda.current_stream(self._device))
        if not self._wanted:
            now: Future[Gathered] = Future()
            now.set_result(self._gather(rings, drawn, stored))
            return Ahead(rings, drawn, now)
        return Ahead(rings, drawn, self._thread.submit(self._gather, rings, drawn, stored))

    def _gather(self, rings: Rings, drawn: Drawn, stored: torch.cuda.Event | None) -> Gathered:
        """Gather a batch and move it to the device; runs in the thread."""
        length, context = self.replay.length, self.replay.context
        if self._side is None or stored is None:
            return gather_rows(rings, drawn, length, context).to(self._device), None
        with torch.cuda.stream(self._side):
            self._side.wait_event(stored)
            batch = gather_rows(rings, drawn, length, context, pin=True)
            return batch.to(self._device, non_blocking=True), _event(self._side)

    def _received(self, ahead: Ahead) -> Batch:
        """Wait for the batch, and make it usable on the current stream."""
        try:
            batch, arrived = ahead.batch.result()
        except Exception as error:
            raise RuntimeError(
                f"a batch could not be gathered ahead ({type(error).__name__}: {error}); the "
                f"replay is unchanged, and sample() will try the same batch again"
            ) from error
        if arrived is None:
            return batch
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrived)

        def used_here(name: str, leaf: Any) -> None:
            if name != "batch/row":
                leaf.record_stream(stream)  # keeps the other stream from reusing its memory

        map_leaves(used_here, batch, "batch")
        return batch


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """An event that marks all work queued on the stream so far."""
    event = torch.cuda.Event()
    event.record(stream)
    return event
