"""The loop of a worker process, in which an environment lives."""

import math
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from worldblocks.envs.record import check_step
from worldblocks.envs.vector.handle import perform

_SPARE = 30.0  # seconds after the limit of a request until a process ends itself


def serve(pipe: Any, factory: bytes, variables: dict[str, str], limit: float) -> None:
    """Build an environment, do the requests that arrive, and exit when the pipe closes.

    An answer is (True, result) or (False, what happened, traceback). After the latter the process
    exits, and the run starts a new one.

    Args:
        pipe: receives requests `(name, arguments, seconds)` and sends answers, all pickled.
        factory: the pickled callable that builds the environment.
        variables: the current environment variables of the run.
        limit: seconds that building and closing may take.
    """
    _set_up(variables)
    held: list[Any] = []

    def build() -> tuple[Any, Any]:
        held.append(pickle.loads(factory)())
        return dict(held[0].observation), dict(held[0].action)

    alive = _answer(pipe, build, limit)
    while alive:
        try:
            request, arguments, seconds = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):  # the run has ended, or closed the pipe
            break
        alive = _answer(pipe, lambda r=request, a=arguments: _checked(held[0], r, *a), seconds)
    _set_alarm(limit)
    with suppress(Exception):  # nobody is left to report to
        for environment in held:
            environment.close()


def _checked(environment: Any, request: str, *arguments: Any) -> Any:
    """`perform`, and check its row: NaN is a failure of the environment."""
    answer = perform(environment, request, *arguments)
    if request in ("reset", "step"):
        check_step("the environment", answer, environment.observation, request == "reset")
    return answer


def _answer(pipe: Any, work: Callable[[], Any], limit: float) -> bool:
    """Send the result of `work`, or its exception; returns whether both succeeded."""
    _set_alarm(limit)
    try:
        answer = pickle.dumps((True, work()), pickle.HIGHEST_PROTOCOL)
        ok = True
    except Exception as error:
        line = traceback.format_exception_only(error)[-1].strip().partition("\n")[0]
        answer, ok = pickle.dumps((False, f"raised {line}", traceback.format_exc())), False
    _set_alarm(0)
    try:
        pipe.send_bytes(answer)
    except OSError:
        return False
    return ok


def _set_up(variables: dict[str, str]) -> None:
    """Use the environment variables of the run, one core, and no signals of its terminal."""
    # Only the run handles Ctrl-C and the SIGTERM of a scheduler: it saves first, and a checkpoint
    # needs the environments. The handler does nothing; processes that the environment starts would
    # inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)


def _set_alarm(seconds: float) -> None:
    """End this process after `seconds` and `_SPARE`, even if Python hangs; 0 cancels the alarm.

    The run ends a worker that hangs, but the run itself may have been killed.
    """
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds + _SPARE) if seconds else 0)
