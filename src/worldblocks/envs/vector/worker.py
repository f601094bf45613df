"""An environment in its own process: if it crashes or hangs, the run continues.

Processes come from a fork server: a small process without threads that has imported this package
and nothing of the run. A worker starts in milliseconds and inherits neither locks nor a CUDA
context.
"""

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

from worldblocks.envs.vector.handle import Failed
from worldblocks.envs.vector.serve import serve

_BUILD = 180.0  # seconds to import a simulator and build an environment, on a busy machine
_UNKNOWN = 255  # exit code if the fork server itself has died
_GRACE = 1.0  # seconds that a process has to close its environment


def pack_factory(factory: Callable[[], Any], name: str) -> bytes:
    """Pickle a factory for a worker; `name` begins the error message.

    Raises:
        ValueError: another process could not import it.
    """
    advice = (
        "give a function of a module, or a functools.partial of one such as "
        "functools.partial(wb.envs.atari, 'pong'); or take workers=False"
    )
    try:
        packed = pickle.dumps(factory)
    except Exception as cause:  # pickle raises many types
        raise ValueError(
            f"{name} is built by {factory!r}, which cannot be sent to a worker ({cause}); {advice}"
        ) from cause
    main = sys.modules["__main__"]
    importable = main.__spec__ is not None or Path(getattr(main, "__file__", "")).is_file()
    if b"__main__" in packed and not importable:
        raise ValueError(
            f"{name} is built by {factory!r}, which is defined in a notebook or a console, where "
            f"a worker cannot import it from; {advice}"
        )
    return packed


class Worker:
    """The `Handle` of an environment in a process of its own.

    Args:
        factory: the result of `pack_factory`.
        timeout: seconds that an answer may take.
    """

    spaces: tuple[dict, dict]  # observation and action, after `build`

    def __init__(self, factory: bytes, timeout: float) -> None:
        methods = multiprocessing.get_all_start_methods()
        method = "forkserver" if "forkserver" in methods else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload([serve.__module__])
        self._factory, self._timeout = factory, timeout
        self._process: Any = None
        self._pipe: Any = None
        self._request, self._limit, self._until = b"", 0.0, 0.0
        self._built = self._closed = False
        self._failure: Failed | None = Failed("was not started")  # why there is no process
        self.start()

    @property
    def pid(self) -> int | None:
        """Id of the process; None if there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start a process that builds the environment if there is none; does not wait for it."""
        if self._failure is None or self._closed:
            return
        self._failure, self._built = None, False
        try:
            self._pipe, child_pipe = self._context.Pipe()
            with child_pipe, _without_script(b"__main__" not in self._factory):
                arguments = (child_pipe, self._factory, dict(os.environ), _BUILD)
                self._process = self._context.Process(target=serve, args=arguments)
                self._process.start()
        except (OSError, EOFError) as cause:
            self._process = None
            self._end(f"could not be given a process: {cause!r}", wait=0.0)

    def build(self) -> None:
        """Wait until the environment is built.

        Raises:
            Failed: it could not be built, or took too long.
        """
        if self._failure:
            raise self._failure
        if not self._built:
            self.spaces = self._receive(_BUILD, monotonic() + _BUILD)
            self._built = True

    def ask(self, request: str, *arguments: Any, timeouts: int = 1) -> None:
        """Send a request, or keep it until the environment is built."""
        self._limit = self._timeout * timeouts
        self._request = pickle.dumps((request, arguments, self._limit), pickle.HIGHEST_PROTOCOL)
        if self._built and not self._failure:
            self._send()

    def answer(self) -> Any:
        """Wait for the result of the request.

        Raises:
            Failed: the process died, did not answer in time or sent an exception. It is gone.
        """
        if self._failure or not self._built:
            self.build()
            self._send()
        # A caller that comes late, after a long update, still waits for up to a second.
        return self._receive(self._limit, max(self._until, monotonic() + min(self._limit, 1.0)))

    def close(self) -> None:
        """Close the pipe: the process closes its environment and exits."""
        self._until, self._closed = monotonic() + _GRACE, True
        if self._pipe:
            self._pipe.close()

    def join(self) -> None:
        """Wait for the process to exit; kill it if it does not."""
        if self._failure is None:
            self._end("was closed", wait=max(0.0, self._until - monotonic()))

    def _send(self) -> None:
        self._until = monotonic() + self._limit
        with suppress(OSError):  # the process is dead: `_receive` finds out why
            self._pipe.send_bytes(self._request)

    def _receive(self, limit: float, until: float) -> Any:
        try:
            if not self._pipe.poll(max(0.0, until - monotonic())):
                raise self._end(f"gave no answer within {limit:g} seconds", wait=0.0)
            ok, *parts = pickle.loads(self._pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._end("", wait=_GRACE) from None
        if not ok:
            raise self._end(*parts, wait=_GRACE)
        return parts[0]

    def _end(self, what: str, trace: str = "", *, wait: float) -> Failed:
        """End the process after `wait` seconds; `what` is by default how the process ended."""
        if self._pipe:
            self._pipe.close()
        process, self._process = self._process, None
        if process is not None:
            process.join(wait)
            code = process.exitcode
            if code in (None, _UNKNOWN):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                process.join(_GRACE)
            if process.exitcode is not None:  # else it is stuck in a driver
                process.close()
            what = what or _ending(code)
        self._failure = Failed(what, trace)
        return self._failure


def _ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "closed its pipe"
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-code, f'signal {-code}')}"
    return f"ended its process with exit code {code}"


@contextmanager
def _without_script(hide: bool) -> Iterator[None]:
    """Within this context, a new process does not import the script of the run.

    The import would be slow, and a script without `if __name__ == "__main__":` would begin the run
    again.
    """
    main = sys.modules["__main__"]
    if hide:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
