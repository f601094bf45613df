"""How contestants are timed and their samples summarised.

Every contestant is a process. All are built first; then they take turns, round by round and case by
case, so that other load on the machine affects all of them alike. With one thread the CPU time of
the process counts, with more threads wall time. A figure is the median of the medians of the
rounds. A ratio is the median of the ratios within each round.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.process import Job, Worker, WorkerError

OTHER = {"cpu": "wall", "wall": "cpu"}  # the other clock


@dataclass
class Measured:
    """The measurements of a job.

    Attributes:
        facts: reported by its worker.
        turns: by case, `{"wall": [...], "cpu": [...]}` of each round, in seconds.
    """

    job: Job
    facts: dict[str, Any]
    turns: dict[str, list[dict[str, list[float]]]] = field(default_factory=dict)

    def rounds(self, case: str, clock: str) -> list[list[float]]:
        """Samples of each round."""
        return [turn[clock] for turn in self.turns.get(case, [])]


@dataclass
class Outcome:
    """Contestants in the order of their jobs, and the reasons why others were left out."""

    measured: list[Measured]
    skipped: dict[str, str]


class Summary(NamedTuple):
    """Median and quartiles of the medians of the rounds, and these medians.

    A turn lasts a fixed time, so a quiet round has more samples than a busy one. All rounds
    therefore have equal weight.
    """

    median: float
    low: float
    high: float
    rounds: list[float]


class Ratio(NamedTuple):
    """The median, smallest and largest of the ratios of the rounds, and all of them."""

    value: float
    low: float
    high: float
    rounds: list[float]


def clock_of(threads: int) -> str:
    """The clock that is compared: CPU time with one thread, else wall time."""
    return "cpu" if threads == 1 else "wall"


def summarise(rounds: Sequence[Sequence[float]]) -> Summary:
    """Summarise the samples of each round."""
    medians = [statistics.median(one) for one in rounds]
    if len(medians) < 2:
        return Summary(medians[0], medians[0], medians[0], medians)
    low, middle, high = statistics.quantiles(medians, n=4, method="inclusive")
    return Summary(middle, low, high, medians)


def ratio(ours: Sequence[Sequence[float]], peer: Sequence[Sequence[float]]) -> Ratio:
    """Ours over the peer's, within each round; rounds that only one finished are left out."""
    rounds = [
        statistics.median(one) / statistics.median(other)
        for one, other in zip(ours, peer, strict=False)
    ]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds), rounds)


def measure(
    jobs: Sequence[Job],
    *,
    rounds: int,
    seconds: float,
    shared: Mapping[str, str],
    timeout: float,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Start a worker for each job, give them turns, close them.

    A contestant that fails gets no further turns; its measurements so far are kept.

    Args:
        rounds: turns of each case.
        seconds: length of a turn.
        shared: environment variables of all workers.
        timeout: seconds to wait for one answer.
        say: prints a line.
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
            contestant = Measured(worker.job, message["ready"])
            contestant.turns = {case: [] for case in message["cases"]}
            outcome.measured.append(contestant)
            running[worker] = contestant
        take_turns(running, rounds, seconds, outcome, say)
    return outcome


def take_turns(
    running: dict[Worker, Measured],
    rounds: int,
    seconds: float,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    """Case by case within a round, so that compared turns are close together in time."""
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


def skip(outcome: Outcome, worker: Worker, error: WorkerError, say: Callable[[str], None]) -> None:
    """Record and print why a contestant is left out."""
    outcome.skipped[worker.job.name] = str(error)
    say(f"skipped: {error}")
