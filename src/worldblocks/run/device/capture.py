"""A whole update as one CUDA graph around eager kernels."""

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

    A small model spends most of an update on a GPU waiting for Python to launch the next kernel.
    Here the first `warmup` calls run as they are (they are updates like any other: buffers of the
    optimiser and of libraries come into being), the next one is recorded, and from then on a call
    copies its inputs to where the recorded ones were, launches the graph and returns copies of what
    it left. Random numbers go on from call to call. Away from CUDA a call is a call.

    What the function does must be the same every time: no branch on a tensor's value, no copy to
    the host; and what it changes (parameters, optimiser state, running averages) must stay where it
    is. Python runs at the recording and never again, so what it reads then is frozen: a learning
    rate that is a float, a counter, a flag. What is to change is a tensor that is written in place.
    A scheduler is stepped outside the function, for an optimiser whose learning rate is a tensor;
    `LaProp(warmup=...)` counts on the device and needs neither. After the recording, a checkpoint
    must be loaded in place: `nn.Module` and `LaProp` do so, the optimisers of PyTorch do not.

    Args:
        function: takes one pytree of tensors, returns one; None in either stays None. The inputs
            are on one device; results have no gradient.
        warmup: calls before the recording.
        record: runs a function once under capture; gives what launches it again and its result.

    Raises:
        ValueError: inputs lie on several devices, or are not those of the recording.
        RuntimeError: the function cannot be recorded; no later call tries again.

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
        self._static: Any = None  # inputs of our own, which the recorded kernels read
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
            call = self._side.run if self._side else _call
            return call(lambda: self.function(inputs))
        if self._replay is None:
            self._static = _owned(inputs)
            self._replay, self._result = self._recorded()
        self._take(inputs)
        self._replay()
        return _owned(self._result)

    def _recorded(self) -> tuple[Replay, Any]:
        """What launches the function's kernels, and its result."""
        record = self._record or (self._side.record if self._side else None)
        assert record is not None  # away from CUDA nothing is recorded
        try:
            return record(lambda: self.function(self._static))
        except Exception as error:
            said = str(error).partition("\n")[0].rstrip(". ")
            self._failed = (
                f"this function cannot be recorded as one CUDA graph ({type(error).__name__}: "
                f"{said}): most often it copies to the host or branches on a value; run without "
                f"Captured to train eagerly"
            )
            raise RuntimeError(self._failed) from error

    def _take(self, inputs: Any) -> None:
        """Copy inputs to where the recorded kernels read theirs."""
        own, spec = pytree.tree_flatten(self._static)
        new, given = pytree.tree_flatten(inputs)
        if spec != given or not all(map(_alike, own, new)):
            new = self._in_order(inputs)
        for into, value in zip(own, new, strict=True):
            if isinstance(into, torch.Tensor):
                into.copy_(value, non_blocking=True)

    def _in_order(self, inputs: Any) -> list[Any]:
        """Inputs by the way to them ("['obs']['image']"): keys may come in any order."""
        ours, theirs = _by_path(self._static), _by_path(inputs)
        wanted, found = ({key: _layout(x) for key, x in of.items()} for of in (ours, theirs))
        differ = [key for key in {**ours, **theirs} if wanted.get(key) != found.get(key)]
        if differ:
            say = [
                [f"{k or 'itself'} {of.get(k, 'missing')}" for k in differ]
                for of in (wanted, found)
            ]
            raise ValueError(
                f"this update was captured for inputs with {', '.join(say[0])} and was given "
                f"{', '.join(say[1])}; a captured function takes tensors of the same shapes and "
                f"dtypes at each call"
            )
        return [theirs[key] for key in ours]


class Side:
    """Calls and a recording on one stream of a CUDA device, other than the caller's.

    It is the same stream for all of them: autograd keeps with each parameter the stream on which it
    was first used, and a recording may not wait for another one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def check(self, device: torch.device) -> None:
        """Whether a call is for this device."""
        if device != self.device:
            raise ValueError(
                f"this update was begun on {self.device} and was given inputs on {device}; a "
                f"captured function stays on one device, so make another for {device}"
            )

    def run(self, function: Callable[[], Any]) -> Any:
        """A call as it is; its result is the caller's own, without the graph of its gradients."""
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                result = function()
            current.wait_stream(self.stream)
            return _owned(result)

    def record(self, function: Callable[[], Any]) -> tuple[Replay, Any]:
        """Record a function's kernels without running them."""
        gc.collect()  # cycles may hold gradients' graphs of the calls before
        # The streams are set back here even if the capture fails to end.
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            graph = torch.cuda.CUDAGraph()
            options: Any = {"stream": self.stream, "capture_error_mode": "thread_local"}
            with warnings.catch_warnings():
                # Of a graph that does nothing PyTorch only warns.
                warnings.filterwarnings("error", message="The CUDA Graph is empty")
                with torch.cuda.graph(graph, **options):  # meanwhile a prefetch may allocate
                    result = function()

        def replay() -> None:
            with torch.cuda.device(self.device):
                graph.replay()

        return replay, result


def _call(function: Callable[[], Any]) -> Any:
    return _owned(function())


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
    return {pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(tree)[0]}


def _owned(tree: Any) -> Any:
    return pytree.tree_map(lambda x: x.detach().clone() if torch.is_tensor(x) else x, tree)


def _alike(own: Any, new: Any) -> bool:
    if isinstance(own, torch.Tensor) and isinstance(new, torch.Tensor):
        return own.dtype == new.dtype and own.shape == new.shape
    return own is new or _layout(own) == _layout(new)


def _layout(x: Any) -> str:
    return f"{str(x.dtype)[6:]}{list(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)
