"""Workers take turns: round by round, each case of each contestant once."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.jobs import Job
from benchmarks.workers import Worker, WorkerError


@dataclass
class Contestant:
    """What was measured of a job.

    Attributes:
        facts: what its worker says of itself.
        turns: by case, `{"wall": [...], "cpu": [...]}` of each round, in seconds.
        peak_mib: the most memory its process held.
    """

    job: Job
    facts: dict[str, Any]
    turns: dict[str, list[dict[str, list[float]]]] = field(default_factory=dict)
    peak_mib: float = 0.0


@dataclass
class Outcome:
    """Contestants in the order of their jobs, and why others did not take part."""

    contestants: list[Contestant]
    skipped: dict[str, str]


def measure(
    jobs: Sequence[Job],
    *,
    rounds: int,
    seconds: float,
    shared: Mapping[str, str],
    timeout: float,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Start a worker for each job, give them turns, end them.

    All are built at the same time, before any is timed. A contestant that fails is left out from
    there on, with what it had measured.

    Args:
        rounds: turns of each case.
        seconds: a turn lasts about so long.
        shared: environment variables of all workers.
        timeout: seconds to wait for one answer.
        say: takes a line for the reader.
    """
    outcome = Outcome([], {})
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder, ExitStack() as stack:
        workers = []
        for number, job in enumerate(jobs):
            worker = Worker(job, Path(folder) / str(number), shared, timeout)
            stack.callback(worker.close)
            workers.append(worker)
        running = {}
        for worker in workers:
            try:
                message = worker.ready()
            except WorkerError as error:
                skip(outcome, worker, error, say)
                continue
            contestant = Contestant(worker.job, message["ready"])
            contestant.turns = {case: [] for case in message["cases"]}
            outcome.contestants.append(contestant)
            running[worker] = contestant
        take_turns(running, rounds, seconds, outcome, say)
    return outcome


def take_turns(
    running: dict[Worker, Contestant],
    rounds: int,
    seconds: float,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    """Case by case within a round, so that what is compared lies close together in time."""
    cases = dict.fromkeys(case for contestant in running.values() for case in contestant.turns)
    for _ in range(rounds):
        for case in cases:
            for worker, contestant in list(running.items()):
                if case not in contestant.turns:
                    continue
                try:
                    answer = worker.turn(case, seconds)
                except WorkerError as error:
                    skip(outcome, worker, error, say)
                    del running[worker]
                    continue
                contestant.turns[case].append({name: answer[name] for name in ("wall", "cpu")})
                contestant.peak_mib = max(contestant.peak_mib, answer["peak_mib"])


def skip(outcome: Outcome, worker: Worker, error: WorkerError, say: Callable[[str], None]) -> None:
    """Remember why a contestant is out, and say so."""
    outcome.skipped[worker.job.name] = str(error)
    say(f"skipped: {error}")
