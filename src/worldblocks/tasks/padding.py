"""Tasks with different observations and actions behind one world model."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from worldblocks.distributions import Output
from worldblocks.envs import Environment, Step
from worldblocks.replay.labels import FEATURE, LABEL
from worldblocks.spaces import Continuous, Image, Spaces, action_size
from worldblocks.typing import typed


def union(observations: Mapping[str, Spaces]) -> dict[str, Any]:
    """The observations of all tasks as one description: every key, in its largest size.

    Labels (`reward/…`) and features (`feat/…`) are left out: they are no observations.

    Args:
        observations: of each task.

    Raises:
        ValueError: a key is of two kinds, or of two sizes and not a vector of numbers.

    >>> arm, body = {"angle": Continuous((2,))}, {"angle": Continuous((5,)), "up": Continuous()}
    >>> union({"reach": arm, "walk": body})
    {'angle': Continuous(shape=(5,)), 'up': Continuous(shape=())}
    """
    found: dict[str, Any] = {}
    for task, spaces in observations.items():
        for key, space in seen(spaces).items():
            other = found.setdefault(key, space)
            if other == space:
                continue
            if not (_vector(other) and _vector(space)):
                raise ValueError(
                    f"observation {key!r} is {space} in {task!r} and {other} in a task before; "
                    f"only vectors of numbers are padded, so let one task name it otherwise"
                )
            found[key] = max(other, space, key=lambda one: one.size)
    return {key: found[key] for key in sorted(found)}


def seen(spaces: Spaces) -> dict[str, Any]:
    """What an agent may see of these observations: no labels and no features."""
    return {key: one for key, one in spaces.items() if not key.startswith((LABEL, FEATURE))}


def _vector(space: Any) -> bool:
    return isinstance(space, Continuous) and len(space.shape) == 1


class Padded:
    """An environment whose observations are filled up with zeros to those of all tasks.

    A key it does not have is zeros, a shorter vector has zeros at its end. `mask` says which
    numbers are its own. Labels and features stay as they are.

    Args:
        environment: or a callable that builds it.
        observation: what it is to observe, as `union` gives it.

    Raises:
        ValueError: the environment observes what has no place there.
    """

    def __init__(
        self, environment: Environment | Callable[[], Environment], observation: Spaces
    ) -> None:
        self.environment: Any = environment() if callable(environment) else environment
        own = self.environment.observation
        for key, space in seen(own).items():
            room: Any = observation.get(key)
            if room != space and not (_vector(room) and _vector(space) and room.size >= space.size):
                raise ValueError(
                    f"observation {key!r} is {space} and there is room for {room}; give the union "
                    f"of the observations of all tasks"
                )
        self.observation: Spaces = {**own, **observation}
        self.action = self.environment.action

    @property
    def mask(self) -> dict[str, Bool[np.ndarray, "..."]]:
        """By key: which numbers of an observation are the environment's own."""
        own = {key: np.ones(s.shape, bool) for key, s in self.environment.observation.items()}
        return {key: _filled(own.get(key), space, bool) for key, space in self.observation.items()}

    def reset(self, seed: int) -> Step:
        """As the environment's."""
        return self._pad(self.environment.reset(seed))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """As the environment's."""
        return self._pad(self.environment.step(action))

    def get_state(self) -> bytes | None:
        """As the environment's."""
        return self.environment.get_state()

    def set_state(self, state: bytes) -> None:
        """As the environment's."""
        self.environment.set_state(state)

    def close(self) -> None:
        """As the environment's."""
        self.environment.close()

    def _pad(self, step: Step) -> Step:
        spaces = self.observation
        return step._replace(obs={k: _filled(step.obs.get(k), s, None) for k, s in spaces.items()})


def _filled(value: np.ndarray | None, space: Any, dtype: Any) -> np.ndarray:
    """A value at the beginning of zeros of a space."""
    if value is not None and value.shape == space.shape:
        return value
    if dtype is None:
        kinds = {Image: np.uint8, Continuous: np.float32}
        dtype = kinds.get(type(space), np.int64)
    out = np.zeros(space.shape, dtype)
    if value is not None:
        out[: len(value)] = value
    return out


class PaddedActor(nn.Module):
    """A policy of one task for a world whose actions are wider: zeros follow its own numbers.

    What it gives acts like the policy's own output, over vectors of `width` numbers: samples and
    modes are filled up, log-probabilities and the entropy are of its own numbers alone (the mask of
    TD-MPC2).

    Args:
        actor: features to a distribution over flat action vectors; has `actions`.
        width: of an action in the world.
        padding: what follows in place of zeros, up to `width`; None: zeros. A one-hot of the task
            makes a world that is told which task it is.

    Raises:
        ValueError: the action is wider than the world's, or the padding does not fill it.

    Source: TD-MPC2 (arXiv:2310.16828), appendix on multi-task: zero-padded, masked actions.
    """

    padding: Tensor

    def __init__(
        self, actor: nn.Module, *, width: int, padding: Float[Tensor, " rest"] | None = None
    ) -> None:
        super().__init__()
        self.actor = actor
        self.size = action_size(actor.actions)  # type: ignore[arg-type]
        if self.size > width:
            raise ValueError(
                f"an action of {self.size} numbers has no room in a world of {width}; make the "
                f"world as wide as the widest task"
            )
        padding = torch.zeros(width - self.size) if padding is None else padding
        if len(padding) != width - self.size:
            raise ValueError(
                f"an action of {self.size} in a world of {width} takes a padding of "
                f"{width - self.size}, got {len(padding)}"
            )
        self.register_buffer("padding", padding, persistent=False)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> "PaddedPolicy":
        """The policy at each feature vector."""
        return PaddedPolicy(self.actor(feature), self.size, self.padding)


class PaddedPolicy(Output):
    """A distribution over the first numbers of a vector; the others are what `padding` says."""

    def __init__(self, policy: Any, size: int, padding: Float[Tensor, " rest"]) -> None:
        super().__init__(event=1)
        self.policy, self.size, self.padding = policy, size, padding

    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.policy[index], self.size, self.padding)

    def detach(self) -> Self:
        """The same distribution without its history."""
        return type(self)(self.policy.detach(), self.size, self.padding)

    def _fill(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.padding.to(x.dtype).expand(*x.shape[:-1], -1)], -1)

    @property
    def mean(self) -> Float32[Tensor, "*batch action"]:
        """The mean, filled up."""
        return self._fill(self.policy.mean)

    @property
    def mode(self) -> Float32[Tensor, "*batch action"]:
        """The mode, filled up."""
        return self._fill(self.policy.mode)

    def sample(self, noise: Any = None) -> Float32[Tensor, "*batch action"]:
        """A sample, filled up; `noise` as the policy takes it."""
        return self._fill(self.policy.sample(noise))

    def log_prob(self, x: Float[Tensor, "*batch action"]) -> Float32[Tensor, "*batch"]:
        """Log-probability of the first numbers of vectors."""
        return self.policy.log_prob(x[..., : self.size])

    def nll(self, target: Float[Tensor, "*batch action"]) -> Float32[Tensor, "*batch"]:
        """Negative log-probability of the first numbers of vectors."""
        return -self.log_prob(target.detach())

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Of the policy, in nats."""
        return self.policy.entropy()
