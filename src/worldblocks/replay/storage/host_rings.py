"""Rings in host memory, faster than those of any device."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from worldblocks.replay.storage.layout import (
    Layout,
    Values,
    as_array,
    check,
    check_begins,
    check_finite,
)
from worldblocks.replay.storage.memory import OnDevice, Storage
from worldblocks.replay.storage.recycled import Recycled
from worldblocks.replay.storage.rings import Rings

RUN = 2**16  # bytes; larger windows are copied as one run instead of gathered row by row


class HostRings(Rings):
    """Rings in host memory, where NumPy writes and gathers faster than torch."""

    def __init__(self, layout: Layout, streams: int, rows: int, storage: Storage) -> None:
        super().__init__(layout, streams, rows, storage)
        self._arrays = {name: as_array(tensor) for name, tensor in self.tensors.items()}
        self._pin_memory = not isinstance(storage, OnDevice) and storage.pin_memory
        self._memory = Recycled()  # for batches; torch itself reuses pinned memory
        self._flat = {
            name: array.reshape(streams * rows, *array.shape[2:])
            for name, array in self._arrays.items()
        }
        self._entries = [
            (name, array, spec.dtype, (streams, *spec.shape), self._zeros(name))
            for (name, spec), array in zip(layout.items(), self._arrays.values(), strict=True)
        ]

    def add(self, values: Values, streams: NDArray[np.int64] | None = None) -> None:
        """As `Rings.add`. One pass over a row of all streams: most of its cost is overhead."""
        if streams is not None or not self._together:
            super().add(values, streams)
            return
        arrays = []
        with np.errstate(invalid="ignore"):
            for name, ring, dtype, shape, zeros in self._entries:
                value = values.get(name)
                if not isinstance(value, Tensor) or value.dtype is not dtype:
                    break
                array = as_array(value)
                if array.shape != shape:
                    break
                # Zero times infinity or NaN is not zero.
                if zeros is not None and zeros.dot(array.reshape(-1)) != 0:
                    check_finite(name, array, np.arange(self.streams), self.count)
                arrays.append((ring, array))
        if len(arrays) != len(values):
            check(values, self.layout, (self.streams,))
        time = int(self._before[0]) + self._since
        if self._may_have_ended and time:
            ended = self._arrays["is_last"][:, (time - 1) % self.rows]
            after_end = ended & ~as_array(values["is_first"])
            check_begins(after_end, np.arange(self.streams), self.count)
        slot = time % self.rows
        for ring, array in arrays:
            ring[:, slot] = array
        self._since += 1
        self._ended = None
        self._may_have_ended = b"\x01" in as_array(values["is_last"]).tobytes()

    def put_rows(self, stream: NDArray[np.int64], time: NDArray[np.int64], values: Values) -> None:
        """As `Rings.put_rows`."""
        slot = stream * self.rows + time % self.rows
        for name, value in values.items():
            self._flat[name][slot] = as_array(value)

    def _zeros(self, name: str) -> NDArray[Any] | None:
        """Zeros of the size of a row, for values that must be finite."""
        if name not in self._finite:
            return None
        return np.zeros(self._arrays[name][:, 0].size, self._arrays[name].dtype)

    def take(
        self, name: str, slot: Int64[Tensor, "*batch"], pin: bool = False
    ) -> Shaped[Tensor, "..."]:
        """As `Rings.take`, into pinned memory if requested, else into recycled memory.

        Slots with two axes, `batch time`, must be those of consecutive rows.
        """
        dtype, shape = self.layout[name]
        if pin or self._pin_memory:
            taken = torch.empty(slot.shape + shape, dtype=dtype, pin_memory=True)
        else:
            taken = self._memory.empty(slot.shape + shape, dtype)
        if slot.ndim == 2 and slot.shape[1] * self.layout[name].bytes >= RUN:
            self._copy_runs(name, slot, taken)
            return taken
        # In other modes NumPy gathers into a buffer first. Slots are in range by construction.
        np.take(self._flat[name], slot.numpy(), axis=0, out=as_array(taken), mode="clip")
        return taken

    def _copy_runs(
        self, name: str, slot: Int64[Tensor, "batch time"], taken: Shaped[Tensor, "..."]
    ) -> None:
        """Copy windows of consecutive rows, each in one copy, or in two if it wraps around."""
        ring, window = self.tensors[name].flatten(0, 1), slot.shape[1]
        for first, into in zip(slot[:, 0].tolist(), taken, strict=True):
            run = self.rows - first % self.rows  # rows to the end of the ring
            into[:run].copy_(ring[first : first + min(run, window)])
            if run < window:
                into[run:].copy_(ring[first + run - self.rows : first + window - self.rows])
