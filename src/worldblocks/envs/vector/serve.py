"""The far side of a worker: the process in which an environment lives."""

import math
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from worldblocks.envs.vector.checks import check_step
from worldblocks.envs.vector.handle import perform

_SPARE = 30.0  # seconds after its limit at which a process that nobody ended ends itself


def serve(pipe: Any, factory: bytes, variables: dict[str, str], limit: float) -> None:
    """Build an environment, do the requests that arrive, and leave when the pipe closes.

    An answer is (True, result), or (False, what happened, traceback) and the process leaves: the
    other side starts a new one.

    Args:
        pipe: requests `(name, arguments, seconds it may take)` in, answers out, all pickled.
        factory: the pickled callable that builds the environment.
        variables: the environment variables of the run as they are now.
        limit: seconds that building and closing may take.
    """
    _settle(variables)
    held: list[Any] = []

    def build() -> tuple[Any, Any]:
        held.append(pickle.loads(factory)())
        return dict(held[0].observation), dict(held[0].action)

    alive = _answer(pipe, build, limit)
    while alive:
        try:
            request, arguments, seconds = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):  # the run has ended, or hung up
            break
        alive = _answer(pipe, lambda r=request, a=arguments: _checked(held[0], r, *a), seconds)
    _expire(limit)
    with suppress(Exception):  # nobody is left to hear of it
        for environment in held:
            environment.close()


def _checked(environment: Any, request: str, *arguments: Any) -> Any:
    """`perform`, where a row with NaN is a failure of the environment."""
    answer = perform(environment, request, *arguments)
    if request in ("reset", "step"):
        check_step("the environment", answer, environment.observation)
    return answer


def _answer(pipe: Any, work: Callable[[], Any], limit: float) -> bool:
    """Do something and send what came of it; whether all went well."""
    _expire(limit)
    try:
        answer = pickle.dumps((True, work()), pickle.HIGHEST_PROTOCOL)
        well = True
    except Exception as error:
        line = traceback.format_exception_only(error)[-1].strip().partition("\n")[0]
        answer, well = pickle.dumps((False, f"raised {line}", traceback.format_exc())), False
    _expire(0)
    try:
        pipe.send_bytes(answer)
    except OSError:
        return False
    return well


def _settle(variables: dict[str, str]) -> None:
    """Take on the run's environment variables; leave its terminal, its signals and its cores."""
    # Ctrl-C, or the SIGTERM of a scheduler, is for the run to decide on: it saves first, and a
    # checkpoint needs the environments. A handler that does nothing, since processes that the
    # environment starts would inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if hasattr(os, "setsid"):
        os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)


def _expire(seconds: float) -> None:
    """End this process in so many seconds (0: not), also where Python no longer gets a turn.

    The run ends a worker that hangs; but the run itself may have been killed meanwhile.
    """
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds + _SPARE) if seconds else 0)
