"""A worker process: `python -m benchmarks.worker '{"adapter": "module:function", ...}'`."""

import importlib
import json
import os
import sys
import traceback
from typing import TextIO

from benchmarks.timing import Timed, send, serve
from benchmarks.work import Work


def private_channel() -> TextIO:
    """What was standard output. Peers print to it while they are built; that now goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return channel


def build(spec: dict) -> Timed:
    """What the adapter makes of the work."""
    module, _, function = spec["adapter"].partition(":")
    adapter = getattr(importlib.import_module(module), function)
    return adapter(Work(**spec["work"]), **spec["arguments"])


def main(spec: dict, channel: TextIO) -> int:
    """Build, then serve; the exit code."""
    try:
        timed = build(spec)
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
    out = private_channel()
    code = main(json.loads(sys.argv[1]), out)
    out.close()
    sys.stderr.flush()
    # Some peers leave threads behind that would keep an ordinary exit waiting.
    os._exit(code)
