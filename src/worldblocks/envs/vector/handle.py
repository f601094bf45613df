"""The handle of one environment: send it a request, then wait for the answer."""

from typing import Any, Protocol

from worldblocks.envs.record import Environment
from worldblocks.envs.vector.reenact import restore
from worldblocks.spaces import split_action


class Failed(Exception):
    """A handle has lost its environment: what happened, and the traceback if there is one."""

    def __init__(self, what: str, trace: str = "") -> None:
        super().__init__(what)
        self.what, self.trace = what, trace


class Handle(Protocol):
    """An environment, here or in a worker; `spaces` holds its observation and action."""

    spaces: tuple[dict, dict]

    def ask(self, request: str, *arguments: Any, timeouts: int = 1) -> None:
        """Start a request of `perform`; its answer may take `timeouts` times the timeout."""
        ...

    def answer(self) -> Any:
        """Wait for the result of the last request.

        Raises:
            Failed: there is none, and the environment is gone until `start`.
        """
        ...

    def start(self) -> None:
        """Build the environment again if it is gone."""
        ...

    def close(self) -> None:
        """Close the environment; does not wait for a worker."""
        ...

    def join(self) -> None:
        """After `close`: wait until the environment is closed."""
        ...


def perform(environment: Environment, request: str, *arguments: Any) -> Any:
    """Do a request: `step` with a flat action, `reset`, `get_state` or `restore`."""
    if request == "step":
        return environment.step(split_action(environment.action, *arguments))
    if request == "restore":
        return restore(environment, *arguments)
    return getattr(environment, request)(*arguments)


class Local:
    """The handle of an environment in this process; its exceptions reach the caller unchanged."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.spaces = dict(environment.observation), dict(environment.action)
        self._request: tuple[Any, ...] = ()

    def ask(self, request: str, *arguments: Any, timeouts: int = 1) -> None:
        """Store the request."""
        self._request = (request, *arguments)

    def answer(self) -> Any:
        """Do the request."""
        return perform(self.environment, *self._request)

    def start(self) -> None:
        """Nothing to do: the environment is never gone."""

    def close(self) -> None:
        """Close the environment."""
        self.environment.close()

    def join(self) -> None:
        """Nothing to do: `close` has waited."""
