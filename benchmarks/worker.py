"""The worker process: `python -m benchmarks.worker '{"adapter": "module:function", ...}'`.

It calls the adapter, warms up its functions, and times them in turns on request. Messages are lines
of JSON. The worker sends `ready` (with facts on its functions), `missing` (a module that is not
installed) or `failed`. The runner then asks for turns with `{"case": ..., "seconds": ...}`, which
are answered by `{"wall": [...], "cpu": [...]}`, until it closes the pipe.

`compare` starts the worker of another commit with this protocol: keep it, and the fields of `Work`.
This file runs in the interpreters of the peers and imports only the standard library.
"""

import importlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from benchmarks.work import Work

BLOCK = 0.02  # seconds of the shortest sample: shorter calls are timed together
SAMPLES = 50  # at most, in a turn


@dataclass(kw_only=True)
class Timed:
    """The result of an adapter.

    Attributes:
        functions: by case, the function to time.
        values: by case, a value measured while building (bytes, packages, an error).
        parameters: the number of parameters of the model.
        flops: by case, matrix multiplications and convolutions of one call, as the architecture
            defines them.
        mode: eager, compiled or jit.
        note: for the reader of the tables.
        versions: of the relevant packages.
        per: by case, the number of items that one call processes. Times are per item.
        clock: the clock of CPU seconds.
        warm_calls: untimed calls after the first call of each function.
    """

    functions: dict[str, Callable[[], Any]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None
    flops: dict[str, float] = field(default_factory=dict)
    mode: str = "eager"
    note: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    per: dict[str, int] = field(default_factory=dict)
    clock: Callable[[], float] = time.process_time
    warm_calls: int = 3

    def facts(self) -> dict[str, Any]:
        """Everything but the functions, as JSON."""
        names = ("parameters", "flops", "mode", "note", "versions", "values")
        return {name: getattr(self, name) for name in names}


def warm_up(function: Callable[[], Any], calls: int) -> tuple[float, int]:
    """Seconds of the first call, and the number of calls in a sample."""
    took = []
    for _ in range(1 + calls):
        start = time.perf_counter()
        function()
        took.append(time.perf_counter() - start)
    return took[0], max(1, math.ceil(BLOCK / max(min(took), 1e-7)))


def turn(
    function: Callable[[], Any], calls: int, seconds: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Samples of a function for about `seconds`, at least one; each is the mean of `calls`.

    Another contestant has just run, so an untimed call first warms caches and pages, as in
    training, where updates follow each other.
    """
    function()
    wall, cpu = [], []
    end = time.perf_counter() + seconds
    while not wall or (time.perf_counter() < end and len(wall) < SAMPLES):
        start, used = time.perf_counter(), clock()
        for _ in range(calls):
            function()
        cpu.append((clock() - used) / calls)
        wall.append((time.perf_counter() - start) / calls)
    return {"wall": wall, "cpu": cpu}


def send(out: TextIO, message: dict[str, Any]) -> None:
    """Send one message."""
    out.write(json.dumps(message) + "\n")
    out.flush()


def serve(timed: Timed, inbox: TextIO, out: TextIO) -> None:
    """Warm every function up, say `ready`, then answer turns until the runner closes the pipe."""
    calls, first = {}, {}
    for case, function in timed.functions.items():
        first[case], calls[case] = warm_up(function, timed.warm_calls)
    facts = {**timed.facts(), "first_call": first}
    send(out, {"ready": facts, "cases": list(timed.functions)})
    for line in inbox:
        asked = json.loads(line)
        case = asked["case"]
        samples = turn(timed.functions[case], calls[case], asked["seconds"], timed.clock)
        share = timed.per.get(case, 1)
        answer = {name: [value / share for value in row] for name, row in samples.items()}
        send(out, answer)


def main(spec: dict[str, Any], channel: TextIO) -> int:
    """Call the adapter, then serve; the exit code."""
    try:
        module, _, function = spec["adapter"].partition(":")
        adapter = getattr(importlib.import_module(module), function)
        timed = adapter(Work(**spec["work"]), **spec["arguments"])
    except ModuleNotFoundError as error:
        traceback.print_exc()
        send(channel, {"missing": error.name})
        return 1
    except Exception as error:
        traceback.print_exc()
        send(channel, {"failed": f"{type(error).__name__}: {error}"})
        return 1
    serve(timed, sys.stdin, channel)
    return 0


if __name__ == "__main__":
    # Peers print to standard output while they are built; this redirects it to stderr.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    code = main(json.loads(sys.argv[1]), out)
    out.close()
    sys.stderr.flush()
    # Some peers leave threads running, for which an ordinary exit would wait.
    os._exit(code)
