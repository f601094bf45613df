"""Run tests in a fork of this process, with a mutant in its place, and say what came of it."""

import json
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

GRACE = 5.0  # seconds that any mutant has
FACTOR = 10  # times what the tests take without a mutant
ASLEEP = 30.0  # seconds without any work
MEMORY = 6 * 2**30  # bytes that it may hold: not of addresses, of which some tests reserve many


class Outcome(NamedTuple):
    """What came of a mutant.

    `state`: killed, crashed, endless, survived, or untested (no test runs its line). `by`: the test
    that failed. `endless` is out of time, or out of memory.
    """

    state: str
    by: str = ""
    seconds: float = 0.0

    @property
    def caught(self) -> bool:
        return self.state in ("killed", "crashed", "endless")


class Child:
    """A fork that calls a function and sends its result; it is ended when its time is over.

    Its processor time is limited, as other work on the machine does not count; and as a mutant
    that waits uses none, so is the time it sleeps, and generously its time by the clock.
    """

    def __init__(self, work: Callable[[], Any], expected: float) -> None:
        limit = GRACE + FACTOR * expected
        self.began, self.latest = time.monotonic(), time.monotonic() + 60 + 20 * limit
        # Not a pipe, which is full at 64 KiB; closed when it is read.
        self.doing, self.did = [], self.began
        self.answer = tempfile.TemporaryFile()  # noqa: SIM115
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 1))
            self.send({"found": work()})
        except Exception:
            self.send({"raised": traceback.format_exc()})
        finally:
            os._exit(0)

    def result(self, wait: bool = False) -> Any:
        """What the function returned; "crashed" or "endless" if nothing; None if it still runs."""
        late = time.monotonic() > self.latest or self.sleeps() or held(self.pid) > MEMORY
        if late:
            os.killpg(self.pid, signal.SIGKILL)
        pid, status = os.waitpid(self.pid, 0 if late or wait else os.WNOHANG)
        if not pid:
            return None
        with self.answer as file:
            file.seek(0)
            text = file.read()
        out_of_time = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
        if late or out_of_time:
            return "endless"
        answer = json.loads(text or '{"found": "crashed"}')
        if "raised" in answer:
            raise RuntimeError(answer["raised"])
        return answer["found"]

    def sleeps(self) -> bool:
        """Whether it has done nothing for long, and not because others had the processor."""
        doing = activity(self.pid)
        if doing != self.doing or doing[:1] == ["R"]:
            self.doing, self.did = doing, time.monotonic()
        return bool(doing) and time.monotonic() - self.did > ASLEEP

    def send(self, answer: dict[str, Any]) -> None:
        self.answer.write(json.dumps(answer).encode())
        self.answer.flush()


def activity(pid: int) -> list[str]:
    """State and processor time of a process (Linux)."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return []
    return [fields[0], *fields[11:13]]


def held(pid: int) -> int:
    """Bytes of memory of a process."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:  # no such folder on other systems than Linux
        return 0
