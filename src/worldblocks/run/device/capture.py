"""An update captured as one CUDA graph of eager kernels."""

import gc
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

Replay = Callable[[], None]
Record = Callable[[Callable[[], Any]], tuple[Replay, Any]]


class Captured:
    """A function of tensors whose kernels are recorded once and then launched together.

    On a GPU, a small model spends most of an update waiting for Python to launch the next kernel.
    The first `warmup` calls run eagerly: they are ordinary updates, in which the optimiser and
    libraries allocate their buffers. The next call is recorded. Each later call copies its inputs
    into those of the recording, launches the graph and returns copies of the results. Random
    numbers continue from call to call. Without a CUDA input, the function is just called.

    The function must do the same work every time: no branch on a tensor's value, no copy to the
    host. The tensors that it changes (parameters, optimiser state, running averages) must keep
    their memory. Python code runs only during the recording, which freezes every value it reads: a
    float learning rate, a counter, a flag. A value that changes must be a tensor that is written in
    place. Step a scheduler outside the function, and give the optimiser a tensor as learning rate;
    `LaProp(warmup=...)` counts on the device and needs neither. After the recording, a checkpoint
    must be loaded in place: `nn.Module` and `LaProp` do so, PyTorch's optimisers do not.

    Args:
        function: takes one pytree of tensors and returns one; None in either stays None. The inputs
            are on one device; results have no gradient.
        warmup: eager calls before the recording.
        record: runs a function once under capture; returns a function that launches it again, and
            its result.

    Raises:
        ValueError: inputs are on several devices, or differ in layout from those of the recording.
        RuntimeError: the function cannot be recorded; later calls do not try again.

    Source: PyTorch, "Accelerating PyTorch with CUDA Graphs" (whole-network capture).
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        warmup: int = 3,
        record: Record | None = None,
    ) -> None:
        if not isinstance(warmup, int) or warmup < 1:
            raise ValueError(
                f"a capture needs at least 1 call to warm up, got {warmup!r}; warmup is a whole "
                f"number"
            )
        self.function, self.warmup = function, warmup
        self._record = record
        self._side: Side | None = None
        self._calls = 0
        self._failed = ""
        self._replay: Replay | None = None
        self._static: Any = None  # the inputs that the recorded kernels read
        self._result: Any = None

    def __call__(self, inputs: Any) -> Any:
        """`function(inputs)`."""
        device = _cuda_device(inputs) if self._record is None else None
        if self._record is None and device is None:
            return self.function(inputs)
        if self._failed:
            raise RuntimeError(self._failed)
        if device is not None:
            self._side = self._side or Side(device)
            self._side.check(device)
        self._calls += 1
        if self._calls <= self.warmup:
            if self._side:
                return self._side.run(lambda: self.function(inputs))
            return _owned(self.function(inputs))
        if self._replay is None:
            self._static = _owned(inputs)
            self._replay, self._result = self._recorded()
        self._take(inputs)
        self._replay()
        return _owned(self._result)

    def _recorded(self) -> tuple[Replay, Any]:
        """Record the function; returns what launches its kernels, and its result."""
        record = self._record or (self._side.record if self._side else None)
        assert record is not None  # without CUDA nothing is recorded
        try:
            return record(lambda: self.function(self._static))
        except Exception as error:
            reason = str(error).partition("\n")[0].rstrip(". ")
            self._failed = (
                f"this function cannot be recorded as one CUDA graph ({type(error).__name__}: "
                f"{reason}): most often it copies to the host or branches on a value; run without "
                f"Captured to train eagerly"
            )
            raise RuntimeError(self._failed) from error

    def _take(self, inputs: Any) -> None:
        """Copy inputs into the tensors that the recorded kernels read."""
        own, spec = pytree.tree_flatten(self._static)
        new, given = pytree.tree_flatten(inputs)
        if spec != given or not all(map(_alike, own, new)):
            new = self._in_order(inputs)
        for into, value in zip(own, new, strict=True):
            if isinstance(into, torch.Tensor):
                into.copy_(value, non_blocking=True)

    def _in_order(self, inputs: Any) -> list[Any]:
        """The leaves of inputs in the order of the recording: dict keys may come in any order."""
        ours, theirs = _by_path(self._static), _by_path(inputs)
        wanted, found = ({key: _layout(x) for key, x in of.items()} for of in (ours, theirs))
        differ = [key for key in {**ours, **theirs} if wanted.get(key) != found.get(key)]
        if differ:
            lists = [
                ", ".join(f"{key or 'itself'} {of.get(key, 'missing')}" for key in differ)
                for of in (wanted, found)
            ]
            raise ValueError(
                f"this update was captured for inputs with {lists[0]} and was given {lists[1]}; a "
                f"captured function takes tensors of the same shapes and dtypes at each call"
            )
        return [theirs[key] for key in ours]


class Side:
    """Runs and records a function on one side stream of a CUDA device.

    All calls and the recording share the stream: autograd remembers the stream on which each
    parameter was first used, and a recording must not wait for another one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def check(self, device: torch.device) -> None:
        """Raise unless a call is for this device."""
        if device != self.device:
            raise ValueError(
                f"this update was first run on {self.device} and was given inputs on {device}; a "
                f"captured function stays on one device, so make another for {device}"
            )

    def run(self, function: Callable[[], Any]) -> Any:
        """Call a function eagerly; its result is copied and detached."""
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                result = function()
            current.wait_stream(self.stream)
            return _owned(result)

    def record(self, function: Callable[[], Any]) -> tuple[Replay, Any]:
        """Record a function's kernels without running them."""
        gc.collect()  # reference cycles may hold autograd graphs of earlier calls
        # Restores the streams even if the capture fails to end.
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            graph = torch.cuda.CUDAGraph()
            options: Any = {"stream": self.stream, "capture_error_mode": "thread_local"}
            with warnings.catch_warnings():
                # PyTorch only warns about a graph without kernels.
                warnings.filterwarnings("error", message="The CUDA Graph is empty")
                with torch.cuda.graph(graph, **options):  # a prefetch thread may allocate meanwhile
                    result = function()

        def replay() -> None:
            with torch.cuda.device(self.device):
                graph.replay()

        return replay, result


def _cuda_device(inputs: Any) -> torch.device | None:
    """The CUDA device that holds all inputs; None if none is on one."""
    devices = {x.device for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)}
    cuda = [device for device in devices if device.type == "cuda"]
    if not cuda:
        return None
    if len(devices) > 1:
        tensors = {key: x for key, x in _by_path(inputs).items() if isinstance(x, torch.Tensor)}
        where = ", ".join(f"{key} on {x.device}" for key, x in tensors.items())
        raise ValueError(
            f"this update was given inputs on several devices: {where}; a captured function takes "
            f"tensors of one device, so move them to it"
        )
    return cuda[0]


def _by_path(tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as "['obs']['image']"."""
    return {pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(tree)[0]}


def _owned(tree: Any) -> Any:
    """A copy of the tensors, without gradient."""
    return pytree.tree_map(lambda x: x.detach().clone() if torch.is_tensor(x) else x, tree)


def _alike(own: Any, new: Any) -> bool:
    if isinstance(own, torch.Tensor) and isinstance(new, torch.Tensor):
        return own.dtype == new.dtype and own.shape == new.shape
    return own is new or _layout(own) == _layout(new)


def _layout(x: Any) -> str:
    return f"{str(x.dtype)[6:]}{list(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
