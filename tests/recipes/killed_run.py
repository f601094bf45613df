"""Runs a recipe in processes that kill themselves with SIGKILL at a given moment, for the tests.

python killed_run.py CONFIG.json reads lines `MOMENT FOLDER`. For each it forks a process that runs
the recipe in that folder, and answers with the number of the signal that ended it, or 0. MOMENT is
`step:N` (in the loop, after N environment steps of each environment) or `save:N:M` (inside save
number N, before its M-th change of a file). One process imports torch for all of them.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import torch

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


def killed(config: recipe.Config, moment: str) -> int:
    """The signal that ended a forked run, 0 if none did."""
    child = os.fork()
    if child:
        return os.WTERMSIG(os.waitpid(child, 0)[1])
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # standard output is for answers
    kind, *numbers = moment.split(":")
    {"step": at_step, "save": in_save}[kind](*map(int, numbers))
    recipe.main(config)
    os._exit(0)


if __name__ == "__main__":
    base = recipe.Config(**json.loads(Path(sys.argv[1]).read_text()))
    torch.optim.SGD([torch.zeros(1)])  # the imports of a first optimiser, once
    for line in sys.stdin:
        moment, folder = line.split(maxsplit=1)
        config = dataclasses.replace(base, logdir=folder.rstrip("\n"))
        print(killed(config, moment), flush=True)
