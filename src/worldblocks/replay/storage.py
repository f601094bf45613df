"""Where rows are kept."""

import mmap
import sys
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from worldblocks.replay.layout import Layout, Values

MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.12 on


class Rings:
    """One ring of rows for each stream, in host memory, all at the same row.

    Rows of a stream are numbered from 0 in the order they came; a number is never used again.
    Rows oldest … count - 1 are stored, row `time` in slot `time % rows`: the next row, `count`,
    takes the slot of row `count - rows`, which is the oldest when the ring is full. Memory is
    reserved at once and taken by the system page by page, as rows come.

    Attributes:
        layout: what a row is made of.
        tensors: by name, `streams rows ...`.
        count: how many rows a stream has been given.

    Raises:
        MemoryError: the rings do not fit the memory of the machine.
    """

    def __init__(self, layout: Layout, streams: int, rows: int) -> None:
        self.layout = layout
        self.streams = streams
        self.rows = rows
        self.count = 0
        try:
            self.tensors = {
                name: reserve((streams, rows, *spec.shape), spec.dtype)
                for name, spec in layout.items()
            }
        except (RuntimeError, OSError, OverflowError) as error:
            size = streams * rows * sum(spec.bytes for spec in layout.values())
            raise MemoryError(
                f"a replay of {streams} streams of {rows} rows takes {size / 1e9:.1f} GB, more "
                f"than this machine will give; a smaller capacity would do"
            ) from error
        self._arrays = {name: as_array(tensor) for name, tensor in self.tensors.items()}

    @property
    def oldest(self) -> int:
        """The first row that is still stored."""
        return max(0, self.count - self.rows)

    def add(self, values: Values) -> None:
        """Store one row of every stream, each value `env ...`."""
        slot = self.count % self.rows
        for name, value in values.items():
            self._arrays[name][:, slot] = as_array(value)
        self.count += 1

    def slot(
        self, stream: Int64[Tensor, "*batch"], time: Int64[Tensor, "*batch"]
    ) -> Int64[Tensor, "*batch"]:
        """Where a row lies when the axes `streams rows` are seen as one."""
        return stream * self.rows + time % self.rows

    def take(self, name: str, slot: Int64[Tensor, "*batch"]) -> Shaped[Tensor, "..."]:
        """Rows at the given slots, `*batch ...`: one gather into fresh memory."""
        tensor = self.tensors[name].flatten(0, 1)
        return tensor.index_select(0, slot.flatten()).unflatten(0, slot.shape)

    def put(
        self, stream: Int64[Tensor, " row"], time: Int64[Tensor, " row"], values: Values
    ) -> None:
        """Write each value, `row ...`. Evicted rows are skipped; of equal rows the last stays."""
        stays = (time >= self.oldest).nonzero().flatten()
        slot = self.slot(stream, time)[stays]
        # In reverse order the first of equals is the last of them.
        _, backwards = np.unique(slot.numpy()[::-1], return_index=True)
        last = torch.from_numpy(len(slot) - 1 - backwards)
        for name, value in values.items():
            self.tensors[name].flatten(0, 1).index_copy_(0, slot[last], value[stays[last]])

    def read(self, name: str, start: int, stop: int) -> Shaped[Tensor, "env time ..."]:
        """A copy of rows start … stop - 1 of every stream, in order of time."""
        return self.tensors[name].index_select(1, torch.arange(start, stop) % self.rows)

    def write(self, name: str, start: int, value: Shaped[Tensor, "env time ..."]) -> None:
        """Write consecutive rows of every stream, the first of them row `start`."""
        slot = torch.arange(start, start + value.shape[1]) % self.rows
        self.tensors[name].index_copy_(1, slot, value)


def reserve(shape: tuple[int, ...], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
    """A tensor whose memory is taken page by page as it is written.

    Linux refuses an ordinary allocation larger than the memory it has, even if it will never be
    filled; a mapping without reservation is granted.
    """
    size = prod(shape) * dtype.itemsize
    if sys.platform != "linux" or not size:
        return torch.empty(shape, dtype=dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=dtype).view(shape)


def as_array(tensor: Shaped[Tensor, "..."]) -> NDArray[Any]:
    """A tensor seen by NumPy, which writes a few bytes in half the time that torch takes.

    NumPy has no bfloat16: integers of the same bits stand for it.
    """
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy(force=True)
