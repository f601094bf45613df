"""Reuse of the memory of batches.

The system allocates fresh memory page by page. For the megabytes of a batch this takes about as
long as filling them, and allocators return such large blocks to the system when freed.
"""

import weakref
from collections import deque
from math import prod

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

LARGE = 2**20  # bytes; the allocator itself reuses smaller blocks
KEPT = 4  # free blocks kept for reuse


class Recycled:
    """Allocates tensors from the memory of tensors that have been freed.

    >>> recycled = Recycled()
    >>> first = recycled.empty((2**20,), torch.uint8)
    >>> place, row = first.data_ptr(), first[5:]
    >>> del first  # `row` still uses the memory
    >>> recycled.empty((2**20,), torch.uint8).data_ptr() == place
    False
    >>> del row
    >>> place in {recycled.empty((2**20,), torch.uint8).data_ptr() for _ in range(2)}
    True
    """

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
        """An uninitialised tensor. Thread-safe."""
        size = prod(shape) * dtype.itemsize
        if size < LARGE:
            return torch.empty(shape, dtype=dtype)
        memory = self._taken(size)
        view = memory[:]  # only the tensor and its views refer to this array
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    def _taken(self, size: int) -> NDArray[np.uint8]:
        """A free block of that size, or a new one."""
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread took it
                break
            if memory.nbytes == size:
                return memory
            self._free.append(memory)
        # Allocated by torch, which aligns it: copies into NumPy's own memory take a third longer.
        return torch.empty(size, dtype=torch.uint8).numpy()
