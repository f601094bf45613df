"""An environment asked first and answering later, and the one kind that lives in this process."""

from typing import Any, Protocol

from worldblocks.envs.record import Environment
from worldblocks.envs.vector.reenact import restore
from worldblocks.spaces import split_action


class Failed(Exception):
    """A host has lost its environment: what happened, and the traceback if there is one."""

    def __init__(self, what: str, trace: str = "") -> None:
        super().__init__(what)
        self.what, self.trace = what, trace


class Host(Protocol):
    """One environment, asked first and answering later; `spaces`: its observation and action."""

    spaces: tuple[dict, dict]

    def ask(self, request: str, *arguments: Any, patience: int = 1) -> None:
        """Begin a request of `perform`; the answer may take `patience` times the usual limit."""
        ...

    def answer(self) -> Any:
        """What came of the request asked last.

        Raises:
            Failed: nothing did, and the environment is gone until `start`.
        """
        ...

    def start(self) -> None:
        """Build the environment again, if it is gone."""
        ...

    def hang_up(self) -> None:
        """Say that nothing more will be asked."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


def perform(environment: Environment, request: str, *arguments: Any) -> Any:
    """Do a request: `step` with a flat action, `reset`, `get_state` or `restore`."""
    if request == "step":
        return environment.step(split_action(environment.action, *arguments))
    if request == "restore":
        return restore(environment, *arguments)
    return getattr(environment, request)(*arguments)


class Local:
    """An environment in this process: what it raises goes to the caller."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.spaces = dict(environment.observation), dict(environment.action)
        self._request: tuple[Any, ...] = ()

    def ask(self, request: str, *arguments: Any, patience: int = 1) -> None:
        """Remember the request."""
        self._request = (request, *arguments)

    def answer(self) -> Any:
        """Do it."""
        return perform(self.environment, *self._request)

    def start(self) -> None:
        """Nothing: it is there."""

    def hang_up(self) -> None:
        """Nothing: `close` does all."""

    def close(self) -> None:
        """Close the environment."""
        self.environment.close()
