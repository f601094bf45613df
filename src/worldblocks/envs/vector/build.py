"""Build the environments of a vector, in this process or in workers."""

import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize
from typing import Any

from worldblocks.envs.record import Environment
from worldblocks.envs.vector.handle import Failed, Handle, Local
from worldblocks.envs.vector.worker import Worker, pack_factory


def build_handles(
    owner: Any,
    environments: Sequence[Environment | Callable[[], Environment]],
    timeout: float | None,
) -> list[Handle]:
    """Build every environment.

    Args:
        owner: the workers are closed when it is deleted.
        environments: instances, or callables that build them.
        timeout: seconds that a worker may take to answer; None for no workers.
    """
    if not environments:
        raise ValueError("EnvVector got no environment; give it one or more")
    names = [f"environment {i}" for i in range(len(environments))]
    if timeout is None:
        return _build_local(environments, names)
    if multiprocessing.current_process().daemon:
        raise ValueError(
            "EnvVector was asked for workers in a daemonic process, which may start none; take "
            "workers=False (--no-workers), or make the process with daemon=False"
        )
    packed = [_packed(one, name) for one, name in zip(environments, names, strict=True)]
    workers = [Worker(factory, timeout) for factory in packed]
    # Also at exit, before multiprocessing waits for its processes.
    Finalize(owner, close_handles, (workers,), exitpriority=10)
    try:
        for worker, name in zip(workers, names, strict=True):
            _wait_for(worker, name)
        _check_same_spaces([worker.spaces for worker in workers])
    except Exception:
        close_handles(workers)
        raise
    return list(workers)


def _build_local(environments: Sequence[Any], names: list[str]) -> list[Handle]:
    """Build in this process; after an error, close what was built here, not what was given."""
    handles: list[Handle] = []
    built: list[Handle] = []
    try:
        for one, name in zip(environments, names, strict=True):
            given = _is_instance(one)
            if not (given or callable(one)):
                raise ValueError(
                    f"{name} is {one!r}; give an Environment, or a callable that builds one"
                )
            environment: Any = one if given else one()
            handles.append(Local(environment))
            built += [] if given else handles[-1:]
        _check_same_spaces([handle.spaces for handle in handles])
    except Exception:
        close_handles(built)
        raise
    return handles


def _wait_for(worker: Worker, name: str) -> None:
    try:
        worker.build()
    except Failed as failed:
        hint = (
            "What it printed is above. Where a function of the script itself builds environments, "
            "the script begins its work under `if __name__ == '__main__':`"
        )
        raise RuntimeError(
            f"{name} could not be built in a worker: it {failed.what}\n{failed.trace or hint}"
        ) from None


def close_handles(handles: Sequence[Handle]) -> None:
    """Close all environments; workers close theirs at the same time."""
    for handle in handles:
        handle.close()
    for handle in handles:
        handle.join()


def _check_same_spaces(spaces: list[tuple[dict, dict]]) -> None:
    """Raise unless all (observation, action) are equal to the first."""
    for i, given in enumerate(spaces):
        if given != spaces[0]:
            raise ValueError(
                f"environment {i} has observation {given[0]} and action {given[1]}, "
                f"environment 0 has {spaces[0][0]} and {spaces[0][1]}; "
                f"the environments of one EnvVector have the same"
            )


def _is_instance(one: Any) -> bool:
    return hasattr(one, "step") and not isinstance(one, type)


def _packed(one: Any, name: str) -> bytes:
    if _is_instance(one) or not callable(one):
        raise ValueError(
            f"{name} is {one!r}, and workers build their own; give a callable that builds one, "
            f"such as functools.partial(wb.envs.atari, 'pong'), or take workers=False"
        )
    return pack_factory(one, name)
