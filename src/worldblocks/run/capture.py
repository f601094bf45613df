"""A whole update as one CUDA graph around eager kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

Replay = Callable[[], None]
Record = Callable[[Callable[[], Any]], tuple[Replay, Any]]


class Captured:
    """A function of tensors whose kernels are recorded once and then launched together.

    A small model spends most of an update on a GPU waiting for Python to launch the next kernel.
    Here the first `warmup` calls run as they are (they are updates like any other: buffers of the
    optimiser and of libraries come into being), the next one is recorded, and from then on a call
    copies its inputs to where the recorded ones were, launches the graph and returns copies of what
    it left. Random numbers go on from call to call. Away from CUDA a call is a call.

    What the function does must be the same every time: no branch on a tensor's value, no copy to
    the host; and what it changes (parameters, optimiser state, running averages) must stay where it
    is. Load a checkpoint before the first call.

    Args:
        function: takes one pytree of tensors, returns one; None in either stays None.
        warmup: calls before the recording.
        record: runs a function once under capture; gives what launches it again and its result.

    Source: PyTorch, "Accelerating PyTorch with CUDA Graphs" (whole-network capture).
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        warmup: int = 3,
        record: Record | None = None,
    ) -> None:
        if warmup < 1:
            raise ValueError(f"a capture needs at least 1 call to warm up, got {warmup}")
        self.function, self.warmup = function, warmup
        self._record = record
        self._calls = 0
        self._replay: Replay | None = None
        self._inputs: list[Any] = []
        self._spec: Any = None
        self._result: Any = None

    def __call__(self, inputs: Any) -> Any:
        """`function(inputs)`."""
        leaves, spec = pytree.tree_flatten(inputs)
        on_cuda = any(isinstance(x, torch.Tensor) and x.is_cuda for x in leaves)
        if self._record is None and not on_cuda:
            return self.function(inputs)
        self._calls += 1
        if self._calls <= self.warmup:
            return self._aside(inputs)
        if self._replay is None:
            self._inputs, self._spec = [_own(x) for x in leaves], spec
            static = pytree.tree_unflatten(self._inputs, spec)
            record = self._record or record_cuda
            self._replay, self._result = record(lambda: self.function(static))
        self._take(leaves, spec)
        self._replay()
        return pytree.tree_map(_own, self._result)

    def _aside(self, inputs: Any) -> Any:
        """A call as it is; on CUDA on another stream than the default, as a capture will be."""
        if self._record is not None:
            return self.function(inputs)
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            out = self.function(inputs)
        current.wait_stream(side)
        return out

    def _take(self, leaves: list[Any], spec: Any) -> None:
        """Copy inputs to where the recorded kernels read theirs."""
        given, wanted = list(map(_layout, leaves)), list(map(_layout, self._inputs))
        if spec != self._spec or given != wanted:
            raise ValueError(
                f"this update was captured for inputs {wanted} and was given {given}; a captured "
                f"function takes tensors of the same shapes and dtypes at each call"
            )
        for own, new in zip(self._inputs, leaves, strict=True):
            if isinstance(own, torch.Tensor):
                own.copy_(new, non_blocking=True)


def _own(x: Any) -> Any:
    return x.detach().clone() if isinstance(x, torch.Tensor) else x


def _layout(x: Any) -> str:
    return f"{str(x.dtype)[6:]}{list(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)


def record_cuda(function: Callable[[], Any]) -> tuple[Replay, Any]:
    """Record a function's kernels without running them."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a prefetch may allocate
        result = function()
    return graph.replay, result
