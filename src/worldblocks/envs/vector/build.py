"""The environments of a vector, each in this process or in a worker."""

from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize
from typing import Any

from worldblocks.envs.record import Environment
from worldblocks.envs.vector.checks import check_same_spaces
from worldblocks.envs.vector.handle import Failed, Host, Local
from worldblocks.envs.vector.worker import Worker, pack_factory


def open_hosts(
    owner: Any,
    environments: Sequence[Environment | Callable[[], Environment]],
    timeout: float | None,
) -> list[Host]:
    """Every environment, built. Workers do not outlive their owner.

    Args:
        owner: with it, workers are closed.
        environments: built, or callables that build them.
        timeout: seconds that a worker may take to answer; None: no workers.
    """
    if not environments:
        raise ValueError("EnvVector got no environment; give it one or more")
    names = [f"environment {i}" for i in range(len(environments))]
    if timeout is None:
        return _open_local(environments, names)
    packed = [_packed(one, name) for one, name in zip(environments, names, strict=True)]
    hosts = [Worker(factory, timeout) for factory in packed]
    # At exit too, before multiprocessing waits for its processes.
    Finalize(owner, close_hosts, (hosts,), exitpriority=10)
    try:
        for worker, name in zip(hosts, names, strict=True):
            _build(worker, name)
        check_same_spaces([worker.spaces for worker in hosts])
    except Exception:
        close_hosts(hosts)
        raise
    return list(hosts)


def _open_local(environments: Sequence[Any], names: list[str]) -> list[Host]:
    """In this process; where one cannot be opened, those that were built here are closed."""
    local: list[Host] = []
    ours: list[Host] = []
    try:
        for one, name in zip(environments, names, strict=True):
            local.append(Local(_built(one, name)))
            ours += [] if _is_built(one) else local[-1:]
        check_same_spaces([host.spaces for host in local])
    except Exception:
        close_hosts(ours)
        raise
    return local


def _build(worker: Worker, name: str) -> None:
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


def close_hosts(hosts: Sequence[Host]) -> None:
    """Close all, those in workers at the same time."""
    for host in hosts:
        host.hang_up()
    for host in hosts:
        host.close()


def _is_built(one: Any) -> bool:
    return hasattr(one, "step") and not isinstance(one, type)


def _built(one: Any, name: str) -> Any:
    if _is_built(one):
        return one
    if callable(one):
        return one()
    raise ValueError(f"{name} is {one!r}; give an Environment, or a callable that builds one")


def _packed(one: Any, name: str) -> bytes:
    if _is_built(one) or not callable(one):
        raise ValueError(
            f"{name} is {one!r}, and workers build their own; give a callable that builds one, "
            f"such as functools.partial(wb.envs.atari, 'pong'), or take workers=False"
        )
    return pack_factory(one, name)
