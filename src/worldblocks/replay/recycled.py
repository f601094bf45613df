"""Memory for batches, again and again.

The system gives fresh memory page by page, which for the megabytes of a batch takes about as long
as filling it, and the allocator hands pieces so large back whenever it sees fit.
"""

import weakref
from collections import deque
from math import prod

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

LARGE = 2**20  # bytes; the allocator keeps what is smaller
KEPT = 4  # pieces of memory that wait to be used again


class Recycled:
    """Tensors in memory of earlier ones to which nothing refers any more.

    >>> recycled = Recycled()
    >>> first = recycled.empty((2**20,), torch.uint8)
    >>> place, row = first.data_ptr(), first[5:]
    >>> del first  # `row` is still there
    >>> recycled.empty((2**20,), torch.uint8).data_ptr() == place
    False
    >>> del row
    >>> place in {recycled.empty((2**20,), torch.uint8).data_ptr() for _ in range(2)}
    True
    """

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Shaped[Tensor, "..."]:
        """A tensor that is not initialised. Threads may call it at once."""
        size = prod(shape) * dtype.itemsize
        if size < LARGE:
            return torch.empty(shape, dtype=dtype)
        memory = self._taken(size)
        view = memory[:]  # the tensor and all its views hold this, and nothing else does
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view).view(dtype).view(shape)

    def _taken(self, size: int) -> NDArray[np.uint8]:
        """Free memory of that size, or new."""
        for _ in range(len(self._free)):
            try:
                memory = self._free.popleft()
            except IndexError:  # another thread was faster
                break
            if memory.nbytes == size:
                return memory
            self._free.append(memory)
        # Of torch, which aligns it: copies into NumPy's own take a third longer.
        return torch.empty(size, dtype=torch.uint8).numpy()
