"""Ring buffers of rows, one per stream."""

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from worldblocks.replay.storage.layout import (
    Layout,
    Values,
    as_array,
    check,
    check_begins,
    check_finite,
    finite,
)
from worldblocks.replay.storage.memory import Storage, no_room
from worldblocks.replay.storage.stored import Stored

PAGE = 4096  # bytes; the rings of each name are page-aligned, which suits every dtype


class Rings:
    """One ring of rows per stream, in the memory of one storage.

    The rows of a stream are numbered from 0 in order of arrival. Numbers are never reused. Rows
    oldest … count - 1 of a stream are stored, row `time` in slot `time % rows`. Its next row,
    `count`, takes the slot of row `count - rows`, which is the oldest if the ring is full.

    Except for its carry, a row never changes until it is evicted.

    Attributes:
        layout: the layout of a row.
        tensors: tensors by name, `streams rows ...`, on `device`.

    Raises:
        MemoryError: the rings do not fit into the storage.
        OSError: the storage cannot be used.
    """

    def __init__(self, layout: Layout, streams: int, rows: int, storage: Storage) -> None:
        self.layout = layout
        self.streams = streams
        self.rows = rows
        self.restart(np.zeros(streams, np.int64))
        self._ended: Bool[Tensor, " streams"] | None = None  # read when it is needed
        self._finite = finite(layout)
        places, size = _places(layout, streams * rows)
        try:
            memory = storage.reserve(size)
        except (RuntimeError, OSError, OverflowError) as error:
            if not no_room(error):
                raise
            raise MemoryError(
                f"a replay of {streams} streams of {rows} rows takes {size / 1e9:.1f} GB, more "
                f"than {storage} can provide; use a smaller capacity"
            ) from error
        self.device = memory.device
        self.tensors = {
            name: memory[place].view(layout[name].dtype).view(streams, rows, *layout[name].shape)
            for name, place in places.items()
        }

    def restart(self, count: NDArray[np.int64]) -> None:
        """Set the number of rows added to each stream; the caller writes the stored ones."""
        self._before, self._since = count, 0  # rows of each stream, and of all since then
        self._together = len(set(count.tolist())) == 1  # all streams have the same number of rows
        self._may_have_ended = True  # whether the newest row of a stream may be is_last

    @property
    def count(self) -> NDArray[np.int64]:
        """Number of rows added to each stream."""
        return self._before + self._since

    @property
    def stored(self) -> Stored:
        """The rows that are stored."""
        count = self.count
        return Stored(np.maximum(count - self.rows, 0), count)

    def add(self, values: Values, streams: NDArray[np.int64] | None = None) -> None:
        """Store the next row of all streams, or of the given ones, each value `env ...`.

        Raises:
            ValueError: a value does not match the layout or is not finite. Nothing was added.
        """
        check(values, self.layout, (self.streams if streams is None else len(streams),))
        stream = np.arange(self.streams) if streams is None else streams
        ended, after_end = self._after_end(values, stream)
        self._check_values(values, stream, after_end=after_end)
        self.put_rows(stream, self.count[stream], values)
        count = self.count
        count[stream] += 1
        self.restart(count)
        place = _to(ended.device, torch.from_numpy(stream))
        self._ended = ended.index_copy(0, place, _to(ended.device, values["is_last"].detach()))

    def extend(self, stream: int, rows: int, values: Values) -> None:
        """Store the next `rows` rows of one stream, each value `time ...`.

        Raises:
            ValueError: a value does not match the layout or is not finite. Nothing was added.
        """
        check(values, self.layout, (rows,))
        self._check_values(values, np.full(rows, stream), np.arange(rows))
        kept = np.arange(max(0, rows - self.rows), rows)  # the rest is evicted at once
        self.put_rows(
            np.full(len(kept), stream),
            self.count[stream] + kept,
            {name: value[len(value) - len(kept) :] for name, value in values.items()},
        )
        count = self.count
        count[stream] += rows
        self.restart(count)
        self._ended = None

    def _after_end(
        self, values: Values, stream: NDArray[np.int64]
    ) -> tuple[Bool[Tensor, " streams"], Bool[Tensor, " row"]]:
        """`is_last` of the newest row of each stream, and which rows go on after such a row.

        Both are where the rows are: to read a device would wait for all that it does.
        """
        if self._ended is None:
            streams, count = np.arange(self.streams), self.count
            newest = self.read("is_last", streams, np.maximum(count - 1, 0))
            self._ended = newest & torch.from_numpy(count > 0)
        is_first = values["is_first"]
        ended = _to(is_first.device, self._ended)
        return ended, ended[_to(ended.device, torch.from_numpy(stream))] & ~is_first

    def _check_values(
        self,
        values: Values,
        stream: NDArray[np.int64],
        later: NDArray[np.int64] | int = 0,
        after_end: Bool[Tensor, " row"] | None = None,
    ) -> None:
        """Values on the device are checked there, with a single synchronisation."""
        here = [name for name in self._finite if values[name].device == self.device]
        faults = [~values[name].isfinite().all() for name in here]
        flags = after_end is not None and after_end.device == self.device
        if after_end is not None and flags:
            faults.append(after_end.any())
        fine = bool(faults) and not bool(torch.stack(faults).any())
        for name in self._finite:
            if not (fine and name in here):
                check_finite(name, as_array(values[name]), stream, self.count[stream] + later)
        if after_end is not None and not (fine and flags):
            check_begins(as_array(after_end), stream, self.count[stream])

    def slot(
        self, stream: Int64[Tensor, "*batch"], time: Int64[Tensor, "*batch"]
    ) -> Int64[Tensor, "*batch"]:
        """Index of rows along the flattened axes `streams rows`, on the device."""
        return _to(self.device, stream * self.rows + time % self.rows)

    def take(
        self, name: str, slot: Int64[Tensor, "*batch"], pin: bool = False
    ) -> Shaped[Tensor, "..."]:
        """Gather the rows at the given slots, `*batch ...`, into new memory on the device.

        `pin` asks for pinned host memory; a storage on a device ignores it.
        """
        tensor = self.tensors[name].flatten(0, 1)
        return tensor.index_select(0, slot.flatten()).unflatten(0, slot.shape)

    def put(
        self, stream: Int64[Tensor, " row"], time: Int64[Tensor, " row"], values: Values
    ) -> None:
        """Write values `row ...`. Evicted rows are skipped; of duplicate rows the last one wins."""
        stays = (time >= torch.from_numpy(self.stored.oldest)[stream]).nonzero().flatten()
        slot = (stream * self.rows + time % self.rows)[stays]
        # In reverse order, the first of several duplicates is the last one.
        _, backwards = np.unique(slot.numpy()[::-1], return_index=True)
        last = torch.from_numpy(len(slot) - 1 - backwards)
        chosen = stays[last]
        values = {name: value[_to(value.device, chosen)] for name, value in values.items()}
        self.put_rows(stream[chosen].numpy(), time[chosen].numpy(), values)

    def put_rows(self, stream: NDArray[np.int64], time: NDArray[np.int64], values: Values) -> None:
        """Write values `row ...` of different rows."""
        slot = self.slot(torch.from_numpy(stream), torch.from_numpy(time))
        for name, value in values.items():
            value = _to(self.device, value.detach())
            self.tensors[name].flatten(0, 1).index_copy_(0, slot, value)

    def read(
        self, name: str, stream: NDArray[np.int64], time: NDArray[np.int64]
    ) -> Shaped[Tensor, "row ..."]:
        """A copy of rows in host memory."""
        slot = self.slot(torch.from_numpy(stream), torch.from_numpy(time))
        return self.tensors[name].flatten(0, 1).index_select(0, slot).cpu()


def _places(layout: Layout, rows: int) -> tuple[dict[str, slice], int]:
    """The bytes that hold `rows` rows of each name, and their total number."""
    places, size = {}, 0
    for name, spec in layout.items():
        places[name] = slice(size, size + rows * spec.bytes)
        size = -(-places[name].stop // PAGE) * PAGE
    return places, size


def _to(device: torch.device, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Move to the device, asynchronously where that is safe.

    A copy from pageable memory to a device has read its source when it returns. A copy from pinned
    memory has not, and the owner may overwrite it. A copy to the host has not been written yet.
    """
    if value.device == device:
        return value
    return value.to(device, non_blocking=device.type == "cuda" and not value.is_pinned())
