"""All checks, each in a process of its own with its own time; what is found is kept at once."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.gpu.cases import CASES, Case
from benchmarks.provenance import provenance

PATIENCE = 5  # times its limit that a rehearsal may take, whatever else the machine does
GRACE = 3.0  # seconds after its limit until a process that has not ended itself is killed
LAST = 40  # lines of what a failed process said; where one was stopped, its stack


def main(out: Path, *, device: str, quick: bool, cases: Mapping[str, Case] | None = None) -> int:
    """Make every check; 1 if one of them failed or ran out of time."""
    cases = CASES if cases is None else cases
    out.mkdir(parents=True, exist_ok=True)
    data: dict[str, Any] = {
        "_meta": {**provenance(), "device": device, "quick": quick},
        "cases": {},
    }
    for name, case in cases.items():
        limit = case.limit * (PATIENCE if quick else 1)
        entry = data["cases"][name] = {"limit_s": limit, "findings": {}, "problem": "begun"}
        write(out / "checks.json", data)
        start = time.perf_counter()
        words = [case.function, device, str(int(quick)), str(limit)]
        for finding in Watched(words, limit, entry):
            entry["findings"] |= finding
            write(out / "checks.json", data)
        entry["took_s"] = round(time.perf_counter() - start, 1)
        write(out / "checks.json", data)
        print(f"{name}: {entry['took_s']} s {entry['problem'][-300:] or 'done'}", flush=True)
        print(json.dumps(entry["findings"], ensure_ascii=False)[:1500], flush=True)
    print(f"written: {out / 'checks.json'}")
    return int(any(entry["problem"] for entry in data["cases"].values()))


class Watched:
    """The findings of a worker as it prints them, until it ends or its time is over."""

    def __init__(self, words: list[str], limit: float, entry: dict[str, Any]) -> None:
        self.words, self.limit, self.entry = words, limit, entry

    def __iter__(self) -> Any:
        command = [sys.executable, "-m", "benchmarks.gpu.worker", *self.words]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True
            ) as process,
        ):
            timer = threading.Timer(self.limit + GRACE, process.kill)
            timer.start()
            try:
                yield from (json.loads(line) for line in process.stdout or () if line[:1] == "{")
                code = process.wait()
            finally:
                timer.cancel()
                process.kill()
            said.seek(0)
            lines = said.read().strip().splitlines()[-LAST:]
        self.entry["problem"] = "\n".join([f"exit code {code}", *lines]) if code else ""


def write(path: Path, data: Mapping[str, Any]) -> None:
    """As JSON, in place of what was there, whole at any moment."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(new, path)
