"""Runs of a recipe in this process or its own, and comparisons of two runs."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import worldblocks as wb

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


def command(*args: object, **variables: str) -> dict[str, Any]:
    """Arguments for `subprocess` to run a script in the repository."""
    folders = [ROOT / "src", ROOT / "recipes", HERE, os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(str(folder) for folder in folders if folder)
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | variables
    return {"args": [sys.executable, *map(str, args)], "env": env, "cwd": ROOT, "text": True}


def smoke(recipe: str, folder: Path, *options: object, **variables: str) -> str:
    """Run the smoke preset as documented, in its own process; returns what it printed."""
    args = (f"recipes/{recipe}.py", "smoke", "--logdir", folder, *options)
    done = subprocess.run(**command(*args, **variables), capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(recipe: ModuleType, cfg: Any, folder: Path, code: int = 0, **changes: object) -> Path:
    """A run in this process, on one thread as in `smoke`; `code` is its expected exit code."""
    cfg, threads = dataclasses.replace(cfg, logdir=str(folder), **changes), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wb.run, "plot_curve", lambda _: None)  # each picture takes a second
            assert recipe.main(cfg) == code
    finally:
        torch.set_num_threads(threads)
    return folder


def interrupted(recipe: ModuleType, cfg: Any, folder: Path, at: int, **changes: object) -> Path:
    """A run that gets a SIGTERM while it takes its action number `at`."""
    send, calls = wb.envs.EnvVector.send, []

    def interrupting(self, action):
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return send(self, action)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wb.envs.EnvVector, "send", interrupting)
        return run(recipe, cfg, folder, 128 + signal.SIGTERM, **changes)


def state(folder: Path) -> dict:
    """The checkpoint of a run, without its replay."""
    return wb.run.Checkpoint(folder).load()


def same_run(ours: Path, theirs: Path) -> None:
    """Bitwise: all lines of metrics and episodes, all tensors and numbers of the checkpoint."""
    for name in ("metrics.jsonl", "episodes.jsonl"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    first, second = map(state, (ours, theirs))
    for one in (first, second):
        del one["logger"]["offsets"]["timing"]  # the length of a file of wall-clock times
    same(first, second, "state")


def same(a: Any, b: Any, path: str) -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{path}/{i}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def comparable(folder: Path, steps: int) -> None:
    """Check that a run finished episodes, made updates and stopped in mid-episode."""
    saved = state(folder)
    [step], [updates] = (saved["position"][name] for name in ("step", "updates"))
    assert step == steps
    assert updates >= 4
    assert saved["logger"]["episodes"] >= 2
    assert not saved["envs"]["rows"]["is_first"].any()
