"""A contestant in its own process: its arguments, and its handle in the runner."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.work import Work

# The libraries under the peers read their number of threads from these.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LAST_LINES = 3  # lines of stderr shown when a worker dies
GRACE = 10  # seconds in which a worker should exit by itself


@dataclass(frozen=True, kw_only=True)
class Job:
    """The arguments of a worker process.

    Attributes:
        name: of the contestant, as tables show it.
        adapter: `module:function`, which takes the work and the arguments.
        work: the sizes.
        ours: whether it is a variant of worldblocks.
        arguments: further arguments of the adapter: a checkout's path, a mode.
        environment: variables for this worker only.
        python: the interpreter.
        source: the checkout whose benchmarks and worldblocks are used.
        requirement: the argument of `pip install`.
    """

    name: str
    adapter: str
    work: Work
    ours: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    source: Path = ROOT
    requirement: str = ""

    def command(self) -> list[str]:
        """The worker's command line."""
        spec = {"adapter": self.adapter, "work": asdict(self.work), "arguments": self.arguments}
        return [self.python, "-m", "benchmarks.worker", json.dumps(spec)]

    def variables(self, shared: Mapping[str, str]) -> dict[str, str]:
        """The worker's environment: ours, threads, then the shared and its own variables.

        The shape checks of worldblocks are on unless a job turns them off.
        """
        kept = {name: value for name, value in os.environ.items() if name != "JAXTYPING_DISABLE"}
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.work.threads))
        path = os.pathsep.join([str(self.source), str(self.source / "src")])
        return {**kept, **threads, **shared, **self.environment, "PYTHONPATH": path}


class WorkerError(Exception):
    """A contestant cannot take part; the message has its name, the reason and a remedy."""


class Worker:
    """One process. A thread reads its messages, so that waiting can time out."""

    def __init__(self, job: Job, folder: Path, shared: Mapping[str, str], timeout: float) -> None:
        self.job, self.timeout = job, timeout
        self._log = folder / "stderr"
        folder.mkdir(parents=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                job.command(),
                cwd=folder,
                env=job.variables(shared),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._messages: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._messages.put(line)
        self._messages.put(None)

    def ready(self) -> dict[str, Any]:
        """Wait until it is built; its message with the facts.

        Raises:
            WorkerError: a package is missing, or it failed, exited or took too long.
        """
        message, job = self._receive("building"), self.job
        if "missing" in message:
            what = job.requirement or message["missing"]
            what = what if " " in what else f'pip install "{what}"'
            raise WorkerError(
                f"{job.name}: module {message['missing']!r} is not installed for {job.python}; "
                f"{what} would do, or another interpreter"
            )
        if "failed" in message:
            raise WorkerError(f"{job.name}: building it failed with {message['failed']}")
        return message

    def turn(self, case: str, seconds: float) -> dict[str, Any]:
        """Samples of a case: `wall` and `cpu`, in seconds.

        Raises:
            WorkerError: it exited or took too long.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead; `_receive` raises the reason
            self._process.stdin.write(json.dumps({"case": case, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        return self._receive(f"{case!r}")

    def close(self) -> None:
        """Close its pipe, which ends it; kill it if it does not exit."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(GRACE)
        self._process.stdout.close()

    def _receive(self, doing: str) -> dict[str, Any]:
        try:
            line = self._messages.get(timeout=self.timeout)
        except queue.Empty:
            self._process.kill()
            raise WorkerError(
                f"{self.job.name}: {doing} took more than {self.timeout:g} s; a larger --timeout "
                f"waits longer"
            ) from None
        if line is None:
            code = self._process.wait()
            words = " / ".join(self._log.read_text(errors="replace").split("\n")[-1 - LAST_LINES :])
            raise WorkerError(
                f"{self.job.name}: its process ended with {code} while {doing}; its last words: "
                f"{words.strip(' /') or 'none'}"
            )
        return json.loads(line)
