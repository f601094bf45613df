"""How rows are kept: one ring for each stream."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from worldblocks.replay.layout import Layout, Values, as_array, check, check_finite, finite
from worldblocks.replay.recycled import Recycled
from worldblocks.replay.storage import OnDevice, Storage, no_room

RUN = 2**16  # bytes of a window from which on one copy is faster than a gather of its rows
PAGE = 4096  # bytes; the rings of each name begin on one, which suits every dtype


class Rings:
    """One ring of rows for each stream, all at the same row, in the memory of one storage.

    Rows of a stream are numbered from 0 in the order they came; a number is never used again.
    Rows oldest … count - 1 are stored, row `time` in slot `time % rows`: the next row, `count`,
    takes the slot of row `count - rows`, which is the oldest when the ring is full.

    A stored row never changes, but for its carry: what is gathered from it is the same at any
    moment until it is evicted.

    Attributes:
        layout: what a row is made of.
        tensors: by name, `streams rows ...`, on `device`.
        count: how many rows a stream has been given.

    Raises:
        MemoryError: the rings do not fit the storage.
        OSError: they cannot be kept there at all.
    """

    def __init__(self, layout: Layout, streams: int, rows: int, storage: Storage) -> None:
        self.layout = layout
        self.streams = streams
        self.rows = rows
        self.count = 0
        self._finite = finite(layout)
        places, size = _places(layout, streams * rows)
        try:
            memory = storage.reserve(size)
        except (RuntimeError, OSError, OverflowError) as error:
            if not no_room(error):
                raise
            raise MemoryError(
                f"a replay of {streams} streams of {rows} rows takes {size / 1e9:.1f} GB, more "
                f"than {storage} will give; a smaller capacity would do"
            ) from error
        self.device = memory.device
        self.tensors = {
            name: memory[place].view(layout[name].dtype).view(streams, rows, *layout[name].shape)
            for name, place in places.items()
        }

    @property
    def oldest(self) -> int:
        """The first row that is still stored."""
        return max(0, self.count - self.rows)

    @property
    def stored(self) -> tuple[int, int]:
        """The first row that is still stored, and the next that is not yet."""
        return self.oldest, self.count

    def add(self, values: Values) -> None:
        """Store one row of every stream, each value `env ...`.

        Raises:
            ValueError: a value is unlike the layout, or a number is not finite. Nothing was added.
        """
        check(values, self.layout, (self.streams,))
        self._check_finite(values)
        slot = self.count % self.rows
        for name, value in values.items():
            self.tensors[name][:, slot] = _to(self.device, value.detach())
        self.count += 1

    def _check_finite(self, values: Values) -> None:
        """What is on the device already is looked at there, and waited for once."""
        here = [name for name in self._finite if values[name].device == self.device]
        fine = here and bool(torch.stack([values[name].isfinite().all() for name in here]).all())
        for name in self._finite:
            if not (fine and name in here):
                check_finite(name, as_array(values[name]), self.count)

    def slot(
        self, stream: Int64[Tensor, "*batch"], time: Int64[Tensor, "*batch"]
    ) -> Int64[Tensor, "*batch"]:
        """Where a row lies when the axes `streams rows` are seen as one; on the device."""
        return _to(self.device, stream * self.rows + time % self.rows)

    def take(
        self, name: str, slot: Int64[Tensor, "*batch"], pin: bool = False
    ) -> Shaped[Tensor, "..."]:
        """Rows at the given slots, `*batch ...`: one gather into fresh memory of the device.

        Host memory may be asked to be pinned; that of a storage on a device never is.
        """
        tensor = self.tensors[name].flatten(0, 1)
        return tensor.index_select(0, slot.flatten()).unflatten(0, slot.shape)

    def put(
        self, stream: Int64[Tensor, " row"], time: Int64[Tensor, " row"], values: Values
    ) -> None:
        """Write each value, `row ...`. Evicted rows are skipped; of equal rows the last stays."""
        stays = (time >= self.oldest).nonzero().flatten()
        slot = (stream * self.rows + time % self.rows)[stays]
        # In reverse order the first of equals is the last of them.
        _, backwards = np.unique(slot.numpy()[::-1], return_index=True)
        last = torch.from_numpy(len(slot) - 1 - backwards)
        slot, chosen = _to(self.device, slot[last]), stays[last]
        for name, value in values.items():
            value = _to(self.device, value[_to(value.device, chosen)])
            self.tensors[name].flatten(0, 1).index_copy_(0, slot, value)

    def read(self, name: str, start: int, stop: int) -> Shaped[Tensor, "env time ..."]:
        """A copy of rows start … stop - 1 of every stream, in order of time, in host memory."""
        slot = _to(self.device, torch.arange(start, stop) % self.rows)
        return self.tensors[name].index_select(1, slot).cpu()

    def write(self, name: str, start: int, value: Shaped[Tensor, "env time ..."]) -> None:
        """Write consecutive rows of every stream, the first of them row `start`."""
        slot = torch.arange(start, start + value.shape[1]) % self.rows
        self.tensors[name].index_copy_(1, _to(self.device, slot), _to(self.device, value))


class HostRings(Rings):
    """The same in host memory, where NumPy writes and gathers in less time than torch."""

    def __init__(self, layout: Layout, streams: int, rows: int, storage: Storage) -> None:
        super().__init__(layout, streams, rows, storage)
        self._arrays = {name: as_array(tensor) for name, tensor in self.tensors.items()}
        self._pin_memory = not isinstance(storage, OnDevice) and storage.pin_memory
        self._memory = Recycled()  # of batches; of pinned memory torch takes care
        self._flat = {
            name: array.reshape(streams * rows, *array.shape[2:])
            for name, array in self._arrays.items()
        }
        self._entries = [
            (name, array, spec.dtype, (streams, *spec.shape), self._zeros(name))
            for (name, spec), array in zip(layout.items(), self._arrays.values(), strict=True)
        ]

    def add(self, values: Values) -> None:
        """As of `Rings`, in one look at each value: its overhead is most of what a row costs."""
        arrays = []
        with np.errstate(invalid="ignore"):
            for name, ring, dtype, shape, zeros in self._entries:
                value = values.get(name)
                if not isinstance(value, Tensor) or value.dtype is not dtype:
                    break
                array = as_array(value)
                if array.shape != shape:
                    break
                # Infinities and NaN times zero are not zero.
                if zeros is not None and zeros.dot(array.reshape(-1)) != 0:
                    check_finite(name, array, self.count)
                arrays.append((ring, array))
        if len(arrays) != len(values):
            check(values, self.layout, (self.streams,))
        slot = self.count % self.rows
        for ring, array in arrays:
            ring[:, slot] = array
        self.count += 1

    def _zeros(self, name: str) -> NDArray[Any] | None:
        """As many as a row has numbers, if they must be finite."""
        if name not in self._finite:
            return None
        return np.zeros(self._arrays[name][:, 0].size, self._arrays[name].dtype)

    def take(
        self, name: str, slot: Int64[Tensor, "*batch"], pin: bool = False
    ) -> Shaped[Tensor, "..."]:
        """As of `Rings`, into memory that is pinned if asked, and else used again.

        Slots with two axes, `batch time`, are those of consecutive rows.
        """
        dtype, shape = self.layout[name]
        if pin or self._pin_memory:
            taken = torch.empty(slot.shape + shape, dtype=dtype, pin_memory=True)
        else:
            taken = self._memory.empty(slot.shape + shape, dtype)
        if slot.ndim == 2 and slot.shape[1] * self.layout[name].bytes >= RUN:
            self._copy_runs(name, slot, taken)
            return taken
        # With another mode NumPy gathers into a buffer first; slots are in range by construction.
        np.take(self._flat[name], slot.numpy(), axis=0, out=as_array(taken), mode="clip")
        return taken

    def _copy_runs(
        self, name: str, slot: Int64[Tensor, "batch time"], taken: Shaped[Tensor, "..."]
    ) -> None:
        """Windows of consecutive rows, each in one copy, or in two where it goes around."""
        ring, window = self.tensors[name].flatten(0, 1), slot.shape[1]
        for first, into in zip(slot[:, 0].tolist(), taken, strict=True):
            run = self.rows - first % self.rows  # rows to the end of the ring of this stream
            into[:run].copy_(ring[first : first + min(run, window)])
            if run < window:
                into[run:].copy_(ring[first + run - self.rows : first + window - self.rows])


def make_rings(layout: Layout, streams: int, rows: int, storage: Storage) -> Rings:
    """Empty rings in a storage."""
    kind = Rings if isinstance(storage, OnDevice) else HostRings
    return kind(layout, streams, rows, storage)


def _places(layout: Layout, rows: int) -> tuple[dict[str, slice], int]:
    """Which bytes hold `rows` rows of each name, and how many bytes that takes."""
    places, size = {}, 0
    for name, spec in layout.items():
        places[name] = slice(size, size + rows * spec.bytes)
        size = -(-places[name].stop // PAGE) * PAGE
    return places, size


def _to(device: torch.device, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """On the device, without waiting for it where that is safe.

    What lies in pageable memory has been read when a copy to a device returns. Pinned memory has
    not, and its owner may write it again; memory of the host has not been written yet.
    """
    if value.device == device:
        return value
    return value.to(device, non_blocking=device.type == "cuda" and not value.is_pinned())
