"""Count the memory a function needs, without allocating it."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class MemoryUse(NamedTuple):
    """Bytes of tensors."""

    before: int  # allocated before the call: parameters, inputs
    peak: int  # the maximum during the call, including `before`
    after: int  # still allocated after it: also optimiser state, gradients, results


def count_memory(function: Callable[[], Any], *owners: Any) -> MemoryUse:
    """Peak memory of all tensors alive during `function()`, in bytes.

    On the meta device nothing is computed or allocated, so an update of any size is counted in a
    second on any machine. The count leaves out the allocator's rounding, workspaces of libraries
    and the interpreter: see the measurements on the page "Performance".

    Args:
        function: the call to measure; its tensors may be on any device.
        owners: modules, optimisers and pytrees of tensors that exist before the call.

    >>> x = torch.zeros(1000, device="meta")
    >>> count_memory(lambda: (x + 1).sum(), x)
    MemoryUse(before=4000, peak=8004, after=4004)
    """
    ledger = _Ledger()
    for owner in owners:
        for leaf in pytree.tree_leaves(_tensors(owner)):
            if isinstance(leaf, torch.Tensor):
                ledger.add(leaf)
    before = ledger.now
    with ledger:
        result = function()
    after = ledger.now
    del result
    return MemoryUse(before, ledger.peak, after)


def _tensors(owner: Any) -> Any:
    if isinstance(owner, nn.Module):
        return [*owner.parameters(), *owner.buffers()]
    return list(owner.state.values()) if isinstance(owner, torch.optim.Optimizer) else owner


class _Ledger(TorchDispatchMode):
    """Counts storages from their creation until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        return out
