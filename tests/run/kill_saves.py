"""Kills itself inside saves, for `test_checkpoint_kill.py`: a script, so that forks are cheap.

Prints one line for each kill: which checkpoint was found, and whether it was whole.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from worldblocks.run import Checkpoint
from worldblocks.run.saves.durable import fingerprint


class Rows:
    def __init__(self):
        self.rows = 0

    def save(self, folder):
        name = f"rows-{self.rows}.bin"
        (folder / name).write_bytes(bytes(self.rows * 1000))
        return {"files": {name: fingerprint(folder / name)}}

    def load(self, folder, manifest):
        ((name, entry),) = manifest["files"].items()
        assert fingerprint(folder / name) == entry
        self.rows = entry["size"] // 1000


def save(folder, n):
    rows = Rows()
    rows.rows = n
    state = {"n": n, "weight": torch.full((100_000,), float(n)), "text": "x" * n}
    Checkpoint(folder).save(state, stores={"rows": rows})


def found(folder):
    """The number of the checkpoint; raises if it is incomplete."""
    state, rows = Checkpoint(folder).load(), Rows()
    Checkpoint(folder).load_stores({"rows": rows})
    n = state["n"]
    assert torch.equal(state["weight"], torch.full((100_000,), float(n)))
    assert (rows.rows, len(state["text"])) == (n, n)
    return n


def die_at(count):
    """SIGKILL before the `count`-th call that changes the disk, including opening for writing."""
    calls = [0]

    def dying(real):
        def call(*args, **kwargs):
            calls[0] += 1
            if calls[0] == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "replace", "unlink", "open"):
        setattr(os, name, dying(getattr(os, name)))


def child(work):
    """Run `work` in a fork; returns its process id."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def kill_at_each_call(root):
    count, killed = 0, True
    while killed:
        count += 1
        folder = root / f"call-{count}"
        save(folder, 1)

        def work(folder=folder, count=count):
            die_at(count)
            save(folder, 2)

        _, status = os.waitpid(child(work), 0)
        killed = os.WIFSIGNALED(status)
        n = found(folder)
        save(folder, 3)  # a run that resumes saves again
        print(json.dumps({"call": count, "killed": killed, "found": n, "then": found(folder)}))


def kill_at_random(root, times):
    random.seed(0)
    folder = root / "random"
    begun = time.monotonic()
    save(folder, 1)
    took = time.monotonic() - begun  # on a busy machine the kills come later, too
    for _ in range(times):
        first = found(folder)

        def work(first=first):
            n = first
            while True:
                n += 1
                save(folder, n)

        pid = child(work)
        time.sleep(random.uniform(1, 6) * took)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        print(json.dumps({"random": True, "before": first, "found": found(folder)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    kill_at_each_call(Path(sys.argv[1]))
    kill_at_random(Path(sys.argv[1]), times=20)
