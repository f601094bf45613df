"""One world model for tasks with different observations and actions."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from worldblocks.distributions import Output
from worldblocks.envs import Environment, Step
from worldblocks.replay.labels import FEATURE, LABEL
from worldblocks.spaces import Continuous, Grid, Image, Spaces, action_size
from worldblocks.typing import typed


def union(observations: Mapping[str, Spaces]) -> dict[str, Any]:
    """The observations of all tasks as one description: every key with its largest size.

    Labels (`reward/…`) and features (`feat/…`) are not observations and are left out.

    Args:
        observations: observation description by task.

    Raises:
        ValueError: a key has two different spaces that are not both vectors of numbers.

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
                    f"observation {key!r} is {space} in {task!r} and {other} in an earlier task; "
                    f"only vectors of numbers are padded, so rename it in one task"
                )
            found[key] = max(other, space, key=lambda one: one.size)
    return {key: found[key] for key in sorted(found)}


def seen(spaces: Spaces) -> dict[str, Any]:
    """These observations without labels and features, which an agent must not see."""
    return {key: one for key, one in spaces.items() if not key.startswith((LABEL, FEATURE))}


def _vector(space: Any) -> bool:
    return isinstance(space, Continuous) and len(space.shape) == 1


class Padded:
    """An environment whose observations are padded with zeros to those of all tasks.

    A missing key is all zeros, a shorter vector has zeros at its end. `mask` marks the
    environment's own numbers. Labels and features are unchanged.

    Args:
        environment: an environment, or a callable that builds it.
        observation: the padded description, as returned by `union`.

    Raises:
        ValueError: an observation of the environment does not fit the padded description.
    """

    def __init__(
        self, environment: Environment | Callable[[], Environment], observation: Spaces
    ) -> None:
        self.environment: Any = environment() if callable(environment) else environment
        own = self.environment.observation
        for key, space in seen(own).items():
            target: Any = observation.get(key)
            if target != space and not (
                _vector(target) and _vector(space) and target.size >= space.size
            ):
                raise ValueError(
                    f"observation {key!r} is {space} and there is room for {target}; give the "
                    f"union of the observations of all tasks"
                )
        self.observation: Spaces = {**own, **observation}
        self.action = self.environment.action

    @property
    def mask(self) -> dict[str, Bool[np.ndarray, "..."]]:
        """By key, True for the environment's own numbers."""
        own = {key: np.ones(s.shape, bool) for key, s in self.environment.observation.items()}
        return {key: _padded(own.get(key), space, bool) for key, space in self.observation.items()}

    def reset(self, seed: int) -> Step:
        """Reset the environment."""
        return self._pad(self.environment.reset(seed))

    def step(self, action: dict[str, np.ndarray]) -> Step:
        """Step the environment."""
        return self._pad(self.environment.step(action))

    def get_state(self) -> bytes | None:
        """The state of the environment."""
        return self.environment.get_state()

    def set_state(self, state: bytes) -> None:
        """Restore the state of the environment."""
        self.environment.set_state(state)

    def close(self) -> None:
        """Close the environment."""
        self.environment.close()

    def _pad(self, step: Step) -> Step:
        spaces = self.observation
        return step._replace(obs={k: _padded(step.obs.get(k), s) for k, s in spaces.items()})


def _padded(value: np.ndarray | None, space: Any, dtype: Any = None) -> np.ndarray:
    """A value padded at its end with zeros to the shape of a space."""
    if value is not None and value.shape == space.shape:
        return value
    if dtype is None:
        kinds = {Image: np.uint8, Grid: np.uint8, Continuous: np.float32}
        dtype = kinds.get(type(space), np.int64)
    out = np.zeros(space.shape, dtype)
    if value is not None:
        out[: len(value)] = value
    return out


class PaddedActor(nn.Module):
    """A policy of one task for a world model with wider actions: pads its actions with zeros.

    Its output is a distribution over vectors of `width` numbers. Samples and modes are padded;
    log-probabilities and entropy are those of the task's own numbers (the mask of TD-MPC2).

    Args:
        actor: maps features to a distribution over flat action vectors; has `actions`.
        width: width of an action in the world model.
        padding: the numbers after the task's own, up to `width`; zeros if None. A one-hot of the
            task conditions the world model on the task.

    Raises:
        ValueError: the action is wider than `width`, or the padding does not fill the rest.

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
                f"an action of {self.size} numbers does not fit a world model of {width}; make it "
                f"as wide as the widest task"
            )
        padding = torch.zeros(width - self.size) if padding is None else padding
        if len(padding) != width - self.size:
            raise ValueError(
                f"an action of {self.size} in a world model of {width} takes a padding of "
                f"{width - self.size}, got {len(padding)}"
            )
        self.register_buffer("padding", padding, persistent=False)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> "PaddedPolicy":
        """The policy at each feature vector."""
        return PaddedPolicy(self.actor(feature), self.size, self.padding)


class PaddedPolicy(Output):
    """A distribution over the first numbers of a vector; the others equal `padding`."""

    def __init__(self, policy: Any, size: int, padding: Float[Tensor, " rest"]) -> None:
        super().__init__(event=1)
        self.policy, self.size, self.padding = policy, size, padding

    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.policy[index], self.size, self.padding)

    def detach(self) -> Self:
        """The same distribution without its history."""
        return type(self)(self.policy.detach(), self.size, self.padding)

    def _pad(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.padding.to(x.dtype).expand(*x.shape[:-1], -1)], -1)

    @property
    def parts(self) -> dict[str, Any]:
        """The distributions of the task's own parts by key."""
        return self.policy.parts

    @property
    def mean(self) -> Float32[Tensor, "*batch action"]:
        """The padded mean."""
        return self._pad(self.policy.mean)

    @property
    def mode(self) -> Float32[Tensor, "*batch action"]:
        """The padded mode."""
        return self._pad(self.policy.mode)

    def sample(self, noise: Any = None) -> Float32[Tensor, "*batch action"]:
        """A padded sample; `noise` as in the policy."""
        return self._pad(self.policy.sample(noise))

    def log_prob(self, x: Float[Tensor, "*batch action"]) -> Float32[Tensor, "*batch"]:
        """Log-probability of the first numbers of vectors."""
        return self.policy.log_prob(x[..., : self.size])

    def nll(self, target: Float[Tensor, "*batch action"]) -> Float32[Tensor, "*batch"]:
        """Negative log-probability of the first numbers of vectors."""
        return -self.log_prob(target.detach())

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Entropy of the policy in nats."""
        return self.policy.entropy()
