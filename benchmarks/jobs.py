"""A job: one contestant of one group, and how to start its worker."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.work import Work

ROOT = Path(__file__).parents[1]

# The libraries under the peers read their number of threads from these.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker process is started with.

    Attributes:
        name: of the contestant, as tables show it.
        adapter: `module:function`, which takes the work and the arguments.
        work: what is to be done.
        ours: whether the others are measured against it.
        arguments: further ones of the adapter: a checkout's path, a mode.
        python: the interpreter.
        source: the checkout whose worldblocks is measured; another one compares two commits.
        environment: variables for this worker alone.
        requirement: what pip would have to install.
    """

    name: str
    adapter: str
    work: Work
    ours: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    source: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)
    requirement: str = ""

    def command(self) -> list[str]:
        """The worker's command line."""
        spec = {
            "adapter": self.adapter,
            "work": asdict(self.work),
            "arguments": dict(self.arguments),
        }
        return [self.python, "-m", "benchmarks.worker", json.dumps(spec)]

    def variables(self, shared: Mapping[str, str]) -> dict[str, str]:
        """The worker's environment: ours, threads, then what all and what this one is given.

        The shape checks of worldblocks are on unless a job turns them off.
        """
        kept = {name: value for name, value in os.environ.items() if name != "JAXTYPING_DISABLE"}
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.work.threads))
        path = os.pathsep.join([str(ROOT), str(self.source / "src")])
        return {**kept, **threads, **shared, **self.environment, "PYTHONPATH": path}
