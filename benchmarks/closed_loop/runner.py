"""Runs the seeds of both sides that are not finished, one process at a time."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ROOT
from benchmarks.closed_loop.games import SIDES
from benchmarks.process import LAST_LINES, THREAD_VARIABLES

MODULES = ("jax", "optax", "elements", "ninjax", "einops", "portal", "ruamel.yaml", "chex")
REMEDY = (
    'pip install "jax[cpu]==0.4.33" "numpy<2" elements ninjax optax einops portal ruamel.yaml chex'
)
AT_ONCE = 10  # environment steps that the official loop plays before it looks at the budget


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run: `steps` environment steps of a game with each seed on both sides."""

    game: str
    seeds: Sequence[int]
    steps: int
    out: Path
    official: str  # a checkout
    python: str  # its interpreter

    def check(self) -> None:
        """Check the budget, the checkout and its interpreter.

        Raises:
            ValueError: the official side cannot run.
        """
        if self.steps < AT_ONCE or self.steps % AT_ONCE:
            raise ValueError(
                f"the official loop plays {AT_ONCE} steps at a time, so --steps takes a multiple "
                f"of {AT_ONCE}, got {self.steps}"
            )
        if not Path(self.official, "dreamerv3", "agent.py").exists() or not self.official:
            raise ValueError(
                f"--official takes the path of a checkout of github.com/danijar/dreamerv3, got "
                f"{self.official!r}, which has no dreamerv3/agent.py; --compare needs none"
            )
        if not shutil.which(self.python):
            raise ValueError(
                f"--python takes the interpreter of the official code, got {self.python!r}, which "
                f"cannot be run; a Python with {REMEDY.partition(' ')[2].split()[1]} is needed"
            )
        code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
        command = [self.python, "-c", code, *MODULES]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or ["no words"]
            raise ValueError(
                f"--python is {self.python}, which cannot import what the official code needs "
                f"({words[0]}); `{self.python} -m {REMEDY}` would do"
            )

    def run(self) -> None:
        """Run what is missing, a seed of both sides after another.

        Raises:
            RuntimeError: a run failed; its log is named.
            ValueError: a finished run has another number of steps.
        """
        for seed in self.seeds:
            for side in SIDES:
                folder = self.out / self.game / f"{side}-{seed}"
                if self.finished(folder):
                    print(f"{folder.name}: finished before", flush=True)
                else:
                    print(f"{folder.name}: running", flush=True)
                    self.one(side, seed, folder)

    def finished(self, folder: Path) -> bool:
        """Whether a run is finished, with this number of steps."""
        path = folder / "times.json"
        if not path.exists():
            return False
        steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
        if steps != self.steps:
            raise ValueError(
                f"{folder} holds a run of {steps} steps, and --steps is {self.steps}; use another "
                f"--out, or --steps {steps}"
            )
        return True

    def one(self, side: str, seed: int, folder: Path) -> None:
        """Run one seed of one side; what an interrupted run left is removed first."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        given = {"game": self.game, "seed": seed, "steps": self.steps, "out": str(folder.resolve())}
        given |= {"code": str(Path(self.official).resolve())} if side == "official" else {}
        python = self.python if side == "official" else sys.executable
        paths = [ROOT, *([ROOT / "src", ROOT / "recipes"] if side == "ours" else [])]
        variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
        variables |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "JAXTYPING_DISABLE": "1"}
        log = folder / "log.txt"
        with log.open("w", encoding="utf-8") as stream:
            code = subprocess.run(
                [python, "-m", f"benchmarks.closed_loop.{side}", json.dumps(given)],
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            ).returncode
        if code or not (folder / "times.json").exists():
            words = log.read_text(encoding="utf-8", errors="replace").split("\n")[-1 - LAST_LINES :]
            raise RuntimeError(
                f"{folder.name} ended with exit code {code} before it was finished; its last "
                f"words: {' / '.join(words).strip(' /') or 'none'}; all of them are in {log}"
            )
