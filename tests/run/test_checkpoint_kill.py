"""kill -9 during a save: at every call that changes the disk, and at random moments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_saves.py")


@pytest.mark.skipif(os.name == "nt", reason="needs fork and SIGKILL")
def test_a_killed_save_leaves_a_whole_checkpoint(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    calls = [line for line in lines if "call" in line]
    assert len(calls) > 8
    assert [line["killed"] for line in calls] == [True] * (len(calls) - 1) + [False]
    assert {line["found"] for line in calls} == {1, 2}
    assert calls == sorted(calls, key=lambda line: line["found"])
    assert all(line["then"] == 3 for line in calls)
    at_random = [line for line in lines if "random" in line]
    assert len(at_random) == 20
    assert all(line["found"] >= line["before"] for line in at_random)
    assert at_random[-1]["found"] > 5  # saves were made, so some kills hit one
