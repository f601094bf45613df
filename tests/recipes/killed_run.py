"""Runs a recipe and kills its own process with SIGKILL at a chosen moment; used by the tests.

python killed_run.py CONFIG.json MOMENT, where MOMENT is `step:N` (in the loop, after N environment
steps of each environment) or `save:N:M` (inside save number N, before its M-th change of a file).
"""

import json
import os
import signal
import sys
from pathlib import Path

import dreamerv3_atari as recipe
import worldblocks as wb


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(n: int) -> None:
    send = wb.envs.EnvVector.send

    def counted(self, action):
        counted.calls += 1
        if counted.calls > n:
            die()
        return send(self, action)

    counted.calls = 0
    wb.envs.EnvVector.send = counted


def in_save(number: int, change: int) -> None:
    save = wb.run.Checkpoint.save

    def counted(self, *args, **kwargs):
        counted.calls += 1
        if counted.calls == number:
            before_change(change)
        return save(self, *args, **kwargs)

    counted.calls = 0
    wb.run.Checkpoint.save = counted


def before_change(number: int) -> None:
    left = [number]

    def audit(event: str, args: tuple) -> None:
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if writes or event in ("os.rename", "os.remove"):
            left[0] -= 1
            if left[0] < 0:
                die()

    sys.addaudithook(audit)


if __name__ == "__main__":
    config = recipe.Config(**json.loads(Path(sys.argv[1]).read_text()))
    kind, *numbers = sys.argv[2].split(":")
    {"step": at_step, "save": in_save}[kind](*map(int, numbers))
    recipe.main(config)
