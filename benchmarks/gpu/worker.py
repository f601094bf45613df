"""One check: `worker.py MODULE:FUNCTION DEVICE QUICK LIMIT`; a line of JSON for each finding."""

import faulthandler
import importlib
import json
import sys


def main(function: str, device: str, quick: str, limit: str) -> int:
    """Run it; where the time is over, say where it was and end."""
    faulthandler.dump_traceback_later(float(limit), exit=True)
    out, sys.stdout = sys.stdout, sys.stderr
    module, _, name = function.partition(":")
    for finding in getattr(importlib.import_module(module), name)(device, bool(int(quick))):
        print(json.dumps(finding), file=out, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
