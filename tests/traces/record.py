"""Record a run: its events in order, with digests of their arguments."""

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import io
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from traces import seams

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "dm-control", "ale-py", "minigrid")
PACKAGES += ("transformers", "peft")
Event = list  # name, machine-independent part, digest of values or the losses
Trace = dict[str, Any]  # the machine and the events


def digest(value: Any) -> str:
    """The first 8 digits of a hash of tensors, numbers and strings in dicts, lists and tuples."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()[:8]


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value):
            found.update(f"{key}:".encode())
            _feed(found, value[key])
    elif isinstance(value, list | tuple):
        found.update(f"[{len(value)}]".encode())
        for one in value:
            _feed(found, one)
    elif isinstance(value, torch.Tensor):
        found.update(f"{value.dtype}{list(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().tobytes())
    else:
        found.update(f"{value!r};".encode())


def machine() -> dict[str, str]:
    """Processor and versions, on which the last bits of a run depend."""
    found = {"processor": platform.processor() or platform.machine()}
    cpus = Path("/proc/cpuinfo")
    for line in cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else ():
        if line.startswith("model name"):
            found["processor"] = line.partition(":")[2].strip()
    found["instructions"] = torch.backends.cpu.get_cpu_capability()
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class Listener:
    """Records the events of the code that runs inside it, on one thread.

    Args:
        recipe: the module with the function `update`.
    """

    def __init__(self, recipe: ModuleType) -> None:
        self.events: list[Event] = []
        self._recipe = recipe
        self._replays: list[Any] = []  # to which rows were added
        self._steps: list[str] = []  # of optimisers, since the last update

    @contextlib.contextmanager
    def __call__(self) -> Iterator[list[Event]]:
        with contextlib.ExitStack() as stack:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            stack.callback(register_optimizer_step_post_hook(self._optimised).remove)
            torch.set_num_threads(1)
            for owner, name in seams.PICTURES:
                stack.enter_context(mock.patch.object(owner, name))
            for seam in seams.SEAMS:
                self._patch(stack, seam.owner, seam.name, functools.partial(self._note, seam))
            self._patch(stack, self._recipe, seams.UPDATE, self._updated)
            yield self.events
            for replay in self._replays:
                self.events.append(["replay", {}, digest(seams.stored(replay))])

    def _patch(self, stack: contextlib.ExitStack, owner: Any, name: str, call: Any) -> None:
        """Replace a function by `call(arguments by name, the call itself)`."""
        function = getattr(owner, name)
        signature = inspect.signature(function)

        @functools.wraps(function)
        def heard(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            return call(given, functools.partial(function, *args, **kwargs))

        stack.enter_context(mock.patch.object(owner, name, heard))

    def _note(self, seam: seams.Seam, given: dict[str, Any], run: Callable[[], Any]) -> Any:
        result = run() if seam.runs else None
        if seam.event == "add" and all(given["self"] is not replay for replay in self._replays):
            self._replays.append(given["self"])
        about, values = seam.about(given, result), seam.values(given, result)
        self.events.append([seam.event, about, digest(values)])
        return result

    def _updated(self, given: dict[str, Any], run: Callable[[], Any]) -> Any:
        result = run()
        values = {**seams.losses(result), "gradients and weights": digest(self._steps)}
        self.events.append(["update", {}, values])
        self._steps.clear()
        return result

    def _optimised(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        own = [p for group in optimizer.param_groups for p in group["params"]]
        self._steps.append(digest([[p.grad for p in own], own]))


def trace(recipe: ModuleType, run: Callable[[], int]) -> Trace:
    """The trace of a run, whose output is hidden and which must return 0."""
    said = io.StringIO()
    listener, quiet = Listener(recipe), contextlib.redirect_stderr(said)
    with listener() as events, contextlib.redirect_stdout(said), quiet:
        code = run()
    if code != 0:
        raise RuntimeError(
            f"a run to be traced returned {code}, not 0, and said:\n{said.getvalue()}"
        )
    return {"machine": machine(), "events": json.loads(json.dumps(events))}


def write(path: Path, found: Trace) -> None:
    """Write a trace, with a line for each event."""
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in found["events"])
    text = f'{{"machine": {json.dumps(found["machine"])},\n"events": [\n{lines}\n]}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(path: Path) -> Trace:
    """Read a trace."""
    return json.loads(path.read_text(encoding="utf-8"))
