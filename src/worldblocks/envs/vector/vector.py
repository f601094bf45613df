"""Several environments in lockstep, one row of each at a time."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from worldblocks.envs.record import (
    Environment,
    Episode,
    Rows,
    Step,
    check_action,
    saved_rows,
    stack,
    unstack,
)
from worldblocks.envs.vector.build import build_handles, close_handles
from worldblocks.envs.vector.failure import Failure, FailureWindow
from worldblocks.envs.vector.handle import Failed
from worldblocks.envs.vector.slot import Slot
from worldblocks.spaces import action_size


class EnvVector:
    """Environments stepped in lockstep; each resets automatically.

    After a row that is `is_last`, the next `step` ignores the action and resets: its row is
    `is_first` with reward 0. No observation is skipped, and the rows stay aligned.

    Episode k of environment i is reset with a seed derived from (`seed`, i, k).

    With workers, each environment runs in its own process. If it raises an exception, dies or does
    not answer, a new one is built, with a warning. Its row repeats the last observation with
    reward 0 and `is_last` without `is_terminal`. The episode is not listed in `finished`, and the
    next step resets. If a reset fails, that episode is skipped and the next one begins.

    Args:
        environments: at least one, all with the same spaces; or callables that build them, which
            workers need.
        seed: seed of the run, 0 or more.
        workers: run each environment in its own process; the results are the same.
        timeout: seconds that a step or a reset may take in a worker.
        max_failures, window: failures allowed within `window` steps; one more sets `stopped`.

    Raises:
        ValueError: a number is out of range, an environment has other spaces than the first, or a
            worker could not import the callable that builds its environment.
        RuntimeError: an environment could not be built in its worker; includes the traceback.
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
        if seed < 0 or not timeout > 0:
            raise ValueError(
                f"EnvVector got seed={seed}, timeout={timeout}; it takes a seed of 0 or more and "
                f"a timeout above 0 seconds"
            )
        self._failed = FailureWindow(max_failures, window)
        handles = build_handles(self, environments, timeout if workers else None)
        self.observation, self.action = handles[0].spaces
        self.finished: list[Episode] = []
        self.failures: list[Failure] = []
        self._size = action_size(self.action)
        self._slots = [Slot(handle, i, self._size) for i, handle in enumerate(handles)]
        self._seed, self._taken, self._sent = seed, 0, False
        self._prev_action = torch.zeros(len(self), self._size)
        self._rows: Rows | None = None

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def rows(self) -> Rows:
        """The rows returned last, by `reset`, `receive`, `step` or `load_state_dict`."""
        if self._rows is None:
            raise ValueError("EnvVector has no rows before reset(); call reset() first")
        return self._rows

    @property
    def stopped(self) -> str:
        """Reason the run must stop, with the last traceback.

        Empty while failures stay within `max_failures`. The rows are still valid, so that the run
        can be saved, but failed environments are not built again. `reset` and `load_state_dict`
        forget earlier failures.
        """
        return self._failed.stopped

    def reset(self) -> Rows:
        """Begin a new episode in every environment.

        Raises:
            RuntimeError: workers failed more than `max_failures` times; includes the traceback.
        """
        self._check_idle("reset")
        self._clear_record()
        self._rows, self._prev_action = None, torch.zeros(len(self), self._size)
        for slot in self._slots:
            slot.begin(self._seed)
        rows = self._gather([True] * len(self))
        for slot in self._slots:
            slot.keep_log()
        return rows

    def step(self, action: Float32[Tensor, "env action"]) -> Rows:
        """Do one flat action in each environment; after its last row, reset it instead."""
        self.send(action)
        return self._receive()

    def send(self, action: Float32[Tensor, "env action"]) -> None:
        """Begin a `step`; workers run until `receive` while the caller continues."""
        if self._rows is None:
            raise ValueError("EnvVector was asked for a step before reset(); call reset() first")
        self._check_idle("send")
        self._prev_action = check_action(action, len(self), self._size)
        ended = self._rows.is_last.tolist()
        vectors = self._prev_action.numpy()
        for slot, vector, over in zip(self._slots, vectors, ended, strict=True):
            slot.begin(self._seed) if over else slot.act(vector)
        self._sent = True

    def receive(self) -> Rows:
        """Wait for the rows that follow the actions of `send`."""
        if not self._sent:
            raise ValueError("EnvVector was asked to receive before send(action); call that first")
        return self._receive()

    def state_dict(self) -> dict[str, Any]:
        """The state of every environment, in plain numbers, lists, bytes and tensors.

        It does not depend on `workers`: a run may be resumed with or without them.
        """
        if self._rows is None:
            raise ValueError("EnvVector has no state before reset(); call reset() first")
        self._check_idle("state_dict")
        slots, rows = self._slots, self._rows
        for slot in slots:
            slot.ask_state()
        logs = [slot.log for slot in slots]
        return {
            "seed": self._seed,
            "taken": self._taken,
            "episodes": [slot.episode for slot in slots],
            "scores": [slot.score for slot in slots],
            "lengths": [slot.length for slot in slots],
            "rows": {**rows._asdict(), "obs": dict(rows.obs)},
            "environments": [slot.state() for slot in slots],
            "actions": [None if log is None else torch.from_numpy(log.rows()) for log in logs],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Rows:
        """Continue from `state_dict()`, including its seed; returns its last rows.

        An environment without a state of its own re-enacts its episode. If one does not come back
        to its last row, there is a warning, the row is returned with `is_last` (not terminal) and
        the next step resets: the episode is abandoned and not listed in `finished`.

        Rows that were saved before they had a `prev_action` get zeros.
        """
        self._check_idle("load_state_dict")
        rows = saved_rows(state["rows"], len(self), self._size, self.observation)
        self._clear_record()
        self._seed, self._taken, self.finished = state["seed"], state["taken"], []
        self._rows = rows
        places = zip(*(state[k] for k in ("episodes", "scores", "lengths")), strict=True)
        kept = zip(state["environments"], state["actions"], strict=True)
        errors = []
        for slot, place, its, row in zip(self._slots, places, kept, unstack(rows), strict=True):
            slot.episode, slot.score, slot.length = place
            errors.append(slot.ask_restore(*its, row, self._seed))
        is_last = rows.is_last.clone()
        for i, error in enumerate(errors):
            error = self._restored(i) if error is None else error
            if error:
                warnings.warn(f"environment {i} {error}; it begins a new episode", stacklevel=2)
                is_last[i] = True
        self._rows = rows._replace(is_last=is_last)
        return self._rows

    def close(self) -> None:
        """Close every environment."""
        close_handles([slot.handle for slot in self._slots])

    def _check_idle(self, what: str) -> None:
        if self._sent:
            raise ValueError(
                f"EnvVector was asked for {what} between send and receive; call receive() first"
            )

    def _clear_record(self) -> None:
        """Forget all failures, and build the environments that are gone."""
        self._failed.clear()
        self.failures = []
        for slot in self._slots:
            slot.handle.start()

    def _receive(self) -> Rows:
        self._sent = False
        return self._gather(self.rows.is_last.tolist())

    def _gather(self, begun: list[bool]) -> Rows:
        """Wait for the rows; `begun` marks the first rows of episodes."""
        self.failures = []
        steps = [self._answer(i, begins) for i, begins in enumerate(begun)]
        for i, begins in enumerate(begun):
            while steps[i] is None and begins and not self.stopped:
                self._slots[i].begin(self._seed)
                steps[i] = self._answer(i, begins)
        if self._rows is None and None in steps:
            raise RuntimeError(self.stopped)
        given: list[Step] = []
        for i, step in enumerate(steps):
            if step is None:  # it failed: the last observation again, as the end of the episode
                step = Step(unstack(self.rows)[i].obs, 0.0, begun[i], True, False)
            given.append(step)
        self._taken += 1
        self._rows = stack(given, self.observation, self._prev_action)
        pairs = zip(self._slots, steps, strict=True)
        self.finished = [slot.finished() for slot, step in pairs if step and step.is_last]
        then = "" if self.stopped else "; it begins a new episode"
        for failure in self.failures:
            warnings.warn(f"{failure}{then}", RuntimeWarning, stacklevel=4)
        return self._rows

    def _answer(self, i: int, begins: bool) -> Step | None:
        """Wait for the row of environment i; None if it failed."""
        try:
            return self._slots[i].answer(begins, self._taken)
        except Failed as failed:
            self._note(i, failed)
            return None

    def _restored(self, i: int) -> str:
        """Wait until environment i is restored; the error, or ""."""
        try:
            return self._slots[i].handle.answer()
        except Failed as failed:
            self._note(i, failed)
            return f"{failed.what} while it was brought back"

    def _note(self, i: int, failed: Failed) -> None:
        """Count a failure, and build a new environment unless there were too many."""
        failure = Failure(i, self._taken, failed.what, failed.trace)
        self.failures.append(failure)
        self._failed.add(failure)
        self._slots[i].lost = True
        if not self.stopped:
            self._slots[i].handle.start()
