"""What a CUDA graph does, without a GPU: kernels recorded once, then run again on the same memory.

Python runs at the recording and never again, so that a number it changes later is not seen; a copy
to the host is an error; and the recording leaves every tensor and the random numbers as they were.
"""

import contextlib
from unittest import mock

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

TO_HOST = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select)


class KernelRecorder:
    """For `Captured(record=...)`: what launches a function's kernels again, and its result."""

    def __init__(self):
        self.recordings = self.launches = 0

    def __call__(self, function):
        kernels, numbers = Kernels(), torch.get_rng_state()
        says = {"cuda.is_available": True, "cuda.is_current_stream_capturing": True}
        try:
            with contextlib.ExitStack() as stack:
                for name, answer in says.items():
                    stack.enter_context(mock.patch(f"torch.{name}", return_value=answer))
                stack.enter_context(kernels)
                result = function()
        finally:
            kernels.undo()
            torch.set_rng_state(numbers)
        self.recordings += 1

        def launch():
            self.launches += 1
            kernels.launch()

        return launch, result


class Kernels(TorchDispatchMode):
    """Every kernel that was called, with the tensors it read and wrote."""

    def __init__(self):
        super().__init__()
        self.calls, self.before, self.known = [], [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.overloadpacket in TO_HOST:
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with …")
        given = {place(tensor) for tensor in tensors((args, kwargs))}
        for tensor in written(func, args, kwargs):
            if place(tensor) not in self.known:
                self.known.add(place(tensor))
                memory = tensor.untyped_storage()
                self.before.append((memory, memory.clone()))
        out = func(*args, **kwargs)
        self.known |= {place(tensor) for tensor in tensors(out)} - given  # they are of here
        self.calls.append((func, args, kwargs, out))
        return out

    def undo(self):
        for memory, value in self.before:
            memory.copy_(value)

    @torch.no_grad()
    def launch(self):
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tensors(out), tensors(again), strict=True):
                if place(old) != place(new):  # no view, and nothing that was written in place
                    old.copy_(new)


def tensors(tree):
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def place(tensor):
    return tensor.untyped_storage().data_ptr()


def written(func, args, kwargs):
    """The tensors that a kernel writes in place."""
    names = func._schema.arguments
    given = [*zip(names, args, strict=False)]
    given += [(name, kwargs[name.name]) for name in names if name.name in kwargs]
    return tensors([value for name, value in given if name.alias_info and name.alias_info.is_write])
