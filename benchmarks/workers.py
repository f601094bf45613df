"""A worker process seen from the runner: started, asked for turns, ended."""

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job

LAST_LINES = 3  # of a dead worker's stderr that are shown
GRACE = 10  # seconds in which a worker should end by itself


class WorkerError(Exception):
    """A contestant that cannot take part; the message says which, why, and what would help."""


class Worker:
    """One process. Its messages are read by a thread, so that waiting for them can end."""

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
        """Wait until it is built; what it says of itself.

        Raises:
            WorkerError: a package is missing, or it failed, ended or took too long.
        """
        message = self._receive("building")
        if "missing" in message:
            raise WorkerError(self._missing(message["missing"]))
        if "failed" in message:
            raise WorkerError(f"{self.job.name}: building it failed with {message['failed']}")
        return message

    def turn(self, case: str, seconds: float) -> dict[str, Any]:
        """Samples of a case: `wall` and `cpu`, in seconds.

        Raises:
            WorkerError: it ended or took too long.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead; the next line says why
            self._process.stdin.write(json.dumps({"case": case, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        return self._receive(f"{case!r}")

    def close(self) -> None:
        """End it: by hanging up, which it understands, or else by force."""
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

    def _missing(self, module: str) -> str:
        job = self.job
        what = job.requirement or module
        what = what if " " in what else f'pip install "{what}"'
        return (
            f"{job.name}: module {module!r} is not installed for {job.python}; {what} would do, "
            f"or another interpreter"
        )
