"""The next batch, gathered and moved while this one is trained on."""

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

Gathered = tuple[Batch, torch.cuda.Event | None]  # the event comes when the batch is on the device


class Ahead(NamedTuple):
    """What the thread works on, for the next `sample`."""

    rings: Rings
    drawn: Drawn
    batch: Future[Gathered]


class Prefetch:
    """Batches of a replay on a device, each gathered by a thread while the last is trained on.

    The windows of a batch are drawn when the batch before it is handed out, so experience is
    trained on one batch later than without. A row never changes while it is stored, so the thread
    needs no lock, and what it gathered is what would be gathered now; a window that was evicted
    meanwhile is drawn again. Carries, which `write_back` changes, are gathered when the batch is
    handed out. The batches therefore do not depend on the timing of the thread, and they go on
    after `save` and `load` of the replay, which holds the windows drawn ahead.

    With `ahead=False`, the default away from CUDA, a batch is drawn and gathered when it is asked
    for, and is that of `SequenceReplay.sample`.

    The replay is used as before; only training batches are taken from here, and by one `Prefetch`.
    While a CUDA graph is captured the thread may allocate: capture with
    `capture_error_mode="thread_local"`.

    Args:
        replay: whose batches.
        batch_size: windows of a batch.
        device: where batches are wanted. To a CUDA device they travel through pinned memory, on a
            stream of their own.
        ahead: whether a thread gathers ahead; by default it does for a CUDA device alone.

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
            RuntimeError: the thread failed, or was closed. No batch is lost.
        """
        if self._closed:
            raise RuntimeError("a batch was asked of a closed Prefetch; make another one")
        replay = self.replay
        rings = replay._drawable(self.batch_size, replay.length)
        ahead = self._gathering(rings)
        self._ahead = None  # should it have failed, the next call gathers these windows again
        batch = self._received(ahead)
        cuda = self._side is not None
        carry = gather_carry(rings, ahead.drawn, replay._carry, pin=cuda)
        batch = batch._replace(carry=carry).to(self._device, non_blocking=cuda)
        replay._selector.handed_out()
        if self._wanted:
            self._ahead = self._gathering(rings)
        return batch

    def close(self) -> None:
        """Stop the thread; the replay goes on without."""
        self._closed, self._ahead = True, None
        self._thread.shutdown()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _gathering(self, rings: Rings) -> Ahead:
        """The next batch under way: the one that was begun, if its windows are still those."""
        draw = self.replay._selector.draw_ahead
        drawn = draw(self.batch_size, *rings.stored, self.replay.online)
        ahead = self._ahead
        if ahead and ahead.rings is rings and np.array_equal(ahead.drawn, drawn):
            return ahead
        stored = None
        if self._side is not None:  # a storage on the device gets its rows by the caller's stream
            stored = _event(torch.cuda.current_stream(self._device))
        if not self._wanted:
            now: Future[Gathered] = Future()
            now.set_result(self._gather(rings, drawn, stored))
            return Ahead(rings, drawn, now)
        return Ahead(rings, drawn, self._thread.submit(self._gather, rings, drawn, stored))

    def _gather(self, rings: Rings, drawn: Drawn, stored: torch.cuda.Event | None) -> Gathered:
        """In the thread."""
        length, context = self.replay.length, self.replay.context
        if self._side is None or stored is None:
            return gather_rows(rings, drawn, length, context).to(self._device), None
        with torch.cuda.stream(self._side):
            self._side.wait_event(stored)
            batch = gather_rows(rings, drawn, length, context, pin=True)
            return batch.to(self._device, non_blocking=True), _event(self._side)

    def _received(self, ahead: Ahead) -> Batch:
        """The batch of the thread, for use on the current stream."""
        try:
            batch, arrived = ahead.batch.result()
        except Exception as error:
            raise RuntimeError(
                f"a batch could not be gathered ahead ({type(error).__name__}: {error}); the "
                f"replay is as it was, and another sample() tries the same batch again"
            ) from error
        if arrived is None:
            return batch
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrived)

        def used_here(name: str, leaf: Any) -> None:
            if name != "batch/row":
                leaf.record_stream(stream)  # its memory is of the other stream, which must wait

        map_leaves(used_here, batch, "batch")
        return batch


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """Happens when all that was asked of the stream by now is done."""
    event = torch.cuda.Event()
    event.record(stream)
    return event
