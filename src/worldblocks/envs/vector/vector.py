"""Several environments in lockstep, one row of each at a time."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from worldblocks.envs.record import Environment, Episode, Rows, Step, repeated, stack, unstack
from worldblocks.envs.vector.build import close_hosts, open_hosts
from worldblocks.envs.vector.checks import check_action, check_layout, check_numbers, check_steps
from worldblocks.envs.vector.failure import Failure, FailureWindow
from worldblocks.envs.vector.handle import Failed
from worldblocks.envs.vector.slot import Seat
from worldblocks.spaces import action_size


class EnvVector:
    """Environments stepped in lockstep; each resets by itself.

    Where the last row was `is_last`, the next `step` ignores the action and resets: the row it
    gives is `is_first` with reward 0. So no observation is skipped, and rows stay aligned.

    Episode k of environment i is reset with a seed derived from (`seed`, i, k).

    With workers, each environment lives in a process of its own. One that raises an exception,
    dies or does not answer is built anew, with a warning: its row repeats the last observation
    with reward 0 and `is_last` without `is_terminal`, the episode is not among the finished, and
    the next step resets. Where a reset fails, that episode is skipped and the next begun.

    Args:
        environments: at least one, all with the same spaces; or callables that build them, which
            workers need.
        seed: the run's seed, 0 or more.
        workers: a process for each environment; what is returned is the same.
        timeout: seconds that a step or a reset may take in a worker.
        max_failures: so many may fail within `window` steps; one more sets `stopped`.
        window: steps of the vector.

    Raises:
        ValueError: a number is out of range, an environment has other spaces than the first, or a
            worker could not import what builds its environment.
        RuntimeError: an environment could not be built in its worker; with the traceback.
    """

    def __init__(
        self,
        environments: Sequence[Environment | Callable[[], Environment]],
        *,
        seed: int,
        workers: bool = False,
        timeout: float = 60.0,
        max_failures: int = 3,
        window: int = 1000,
    ) -> None:
        check_numbers(seed, timeout)
        self._failed = FailureWindow(max_failures, window)
        hosts = open_hosts(self, environments, timeout if workers else None)
        self.observation, self.action = hosts[0].spaces
        self.finished: list[Episode] = []
        self.failures: list[Failure] = []
        self._size = action_size(self.action)
        self._seats = [Seat(host, i, self._size) for i, host in enumerate(hosts)]
        self._seed, self._taken, self._sent = seed, 0, False
        self._rows: Rows | None = None

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def rows(self) -> Rows:
        """The rows returned last, by `reset`, `receive`, `step` or `load_state_dict`."""
        if self._rows is None:
            raise ValueError("EnvVector has no rows before reset(); call reset() first")
        return self._rows

    @property
    def stopped(self) -> str:
        """Why it is no use to go on, with the last traceback; "" while workers fail seldom enough.

        The rows are still valid, so that the run can be saved; what fails is no longer built anew.
        `reset` and `load_state_dict` begin with a clean record.
        """
        return self._failed.stopped

    def reset(self) -> Rows:
        """Begin a new episode in every environment.

        Raises:
            RuntimeError: workers failed more often than they may; with the traceback.
        """
        self._check_idle("reset")
        self._clear_record()
        self._rows = None
        for seat in self._seats:
            seat.begin(self._seed)
        rows = self._gather([True] * len(self))
        for seat in self._seats:
            seat.keep_log()
        return rows

    def step(self, action: Float32[Tensor, "env action"]) -> Rows:
        """Do one flat action in each environment; those whose row was the last reset instead."""
        self.send(action)
        return self._receive()

    def send(self, action: Float32[Tensor, "env action"]) -> None:
        """Begin a `step`: workers do theirs while the caller does something else."""
        if self._rows is None:
            raise ValueError("EnvVector was asked for a step before reset(); call reset() first")
        self._check_idle("send")
        vectors = check_action(action, len(self), self._size)
        ended = self._rows.is_last.tolist()
        for seat, vector, over in zip(self._seats, vectors, ended, strict=True):
            seat.begin(self._seed) if over else seat.act(vector)
        self._sent = True

    def receive(self) -> Rows:
        """The rows that the actions of `send` led to."""
        if not self._sent:
            raise ValueError("EnvVector was asked to receive before send(action); call that first")
        return self._receive()

    def state_dict(self) -> dict[str, Any]:
        """Where every environment is, in plain numbers, lists, bytes and tensors.

        It is the same with and without workers: a run may be continued either way.
        """
        if self._rows is None:
            raise ValueError("EnvVector has no state before reset(); call reset() first")
        self._check_idle("state_dict")
        seats, rows = self._seats, self._rows
        for seat in seats:
            seat.ask_state()
        logs = [seat.log for seat in seats]
        return {
            "seed": self._seed,
            "taken": self._taken,
            "episodes": [seat.episode for seat in seats],
            "scores": [seat.score for seat in seats],
            "lengths": [seat.length for seat in seats],
            "rows": {**rows._asdict(), "obs": dict(rows.obs)},
            "environments": [seat.state() for seat in seats],
            "actions": [None if log is None else torch.from_numpy(log.rows()) for log in logs],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Rows:
        """Continue from `state_dict()`, the seed included; gives the rows returned last.

        An environment without a state of its own re-enacts its episode. If one does not come back
        to its last row, a warning says so, the row is returned with `is_last` (not terminal) and
        the next step resets: the episode counts as abandoned and is not among the finished.
        """
        self._check_idle("load_state_dict")
        rows = Rows(**{**state["rows"], "obs": dict(state["rows"]["obs"])})
        check_layout(rows, len(self), self.observation)
        self._clear_record()
        self._seed, self._taken, self.finished = state["seed"], state["taken"], []
        self._rows = rows
        places = zip(*(state[k] for k in ("episodes", "scores", "lengths")), strict=True)
        kept = zip(state["environments"], state["actions"], strict=True)
        asked = []
        for seat, place, its, row in zip(self._seats, places, kept, unstack(rows), strict=True):
            seat.episode, seat.score, seat.length = place
            asked.append(seat.ask_back(*its, row, self._seed))
        is_last = rows.is_last.clone()
        for i, said in enumerate(asked):
            lost = self._came_back(i) if said is None else said
            if lost:
                warnings.warn(f"environment {i} {lost}; it begins a new episode", stacklevel=2)
                is_last[i] = True
        self._rows = rows._replace(is_last=is_last)
        return self._rows

    def close(self) -> None:
        """Close every environment."""
        close_hosts([seat.host for seat in self._seats])

    def _check_idle(self, what: str) -> None:
        if self._sent:
            raise ValueError(
                f"EnvVector was asked for {what} between send and receive; call receive() first"
            )

    def _clear_record(self) -> None:
        """Begin with no failures, and every environment there."""
        self._failed.clear()
        self.failures = []
        for seat in self._seats:
            seat.host.start()

    def _receive(self) -> Rows:
        self._sent = False
        return self._gather(self.rows.is_last.tolist())

    def _gather(self, begun: list[bool]) -> Rows:
        """The rows that were asked for; `begun`: where that is the first row of an episode."""
        self.failures = []
        steps = [self._answer(i, begins) for i, begins in enumerate(begun)]
        for i, begins in enumerate(begun):
            while steps[i] is None and begins and not self.stopped:
                self._seats[i].begin(self._seed)
                steps[i] = self._answer(i, begins)
        if self._rows is None and None in steps:
            raise RuntimeError(self.stopped)
        rows = self._collect(steps, begun)
        then = "" if self.stopped else "; it begins a new episode"
        for failure in self.failures:
            warnings.warn(f"{failure}{then}", RuntimeWarning, stacklevel=4)
        return rows

    def _answer(self, i: int, begins: bool) -> Step | None:
        """The row of environment i; None if it has failed."""
        try:
            return self._seats[i].answer(begins)
        except Failed as failed:
            self._note(i, failed)
            return None

    def _came_back(self, i: int) -> str:
        """What is lost of environment i, which was asked to come back; or nothing."""
        try:
            return self._seats[i].host.answer()
        except Failed as failed:
            self._note(i, failed)
            return f"{failed.what} while it was brought back"

    def _note(self, i: int, failed: Failed) -> None:
        """Count a failure, and build the environment anew unless there were too many."""
        failure = Failure(i, self._taken, failed.what, failed.trace)
        self.failures.append(failure)
        self._failed.add(failure)
        self._seats[i].lost = True
        if not self.stopped:
            self._seats[i].host.start()

    def _collect(self, answers: list[Step | None], begun: list[bool]) -> Rows:
        check_steps(self._taken, answers, self.observation)
        self._taken += 1
        pairs = zip(self._seats, answers, strict=True)
        self.finished = [seat.finished() for seat, step in pairs if step and step.is_last]
        steps = [
            repeated(unstack(self.rows)[i], begun[i]) if step is None else step
            for i, step in enumerate(answers)
        ]
        self._rows = stack(steps, self.observation)
        return self._rows
