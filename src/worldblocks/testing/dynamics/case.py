"""A dynamics block under test, and its inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from worldblocks.testing.episodes import Trajectory, trajectories
from worldblocks.testing.promise import NotApplicable, Promises
from worldblocks.testing.promise.compare import cloned, perturbed, steady, tensors
from worldblocks.testing.strategies import reached

promise = Promises()

MASKS = "where `is_first` masks the carry and the action, before anything reads them"
PLAIN = Trajectory(begins=(False,) * 3, rows=("....",) * 3, seed=0)


class Inputs(NamedTuple):
    """The arguments of `observe`."""

    carry: Any
    embed: Tensor
    prev_action: Tensor
    is_first: Tensor


class Case:
    """A block with random weights, and its sizes."""

    def __init__(
        self,
        make: Callable[[], Any],
        embed_dim: int,
        action_dim: int,
        prior: Callable[[Any, Any], Any] | None,
        latent: Callable[[Any], Tensor] | None,
    ) -> None:
        self.make, self.embed_dim, self.action_dim = make, embed_dim, action_dim
        self.block = perturbed(make)
        self._reached: dict[tuple[int, int], Any] = {}
        self._prior, self._latent = prior, latent

    def carry(self, batch: int, seed: int = 0) -> Any:
        """A carry that the block reaches after three rows."""
        if (batch, seed) not in self._reached:
            sizes = self.embed_dim, self.action_dim
            self._reached[batch, seed] = cloned(reached(self.block, *sizes, batch, 3, seed))
        return cloned(self._reached[batch, seed])

    def inputs(self, trajectory: Trajectory, other: int = 0) -> Inputs:
        """The arguments of `observe` for a trajectory; each `other` gives other numbers."""
        return Inputs(
            self.carry(trajectory.batch, trajectory.seed + 100 * other),
            trajectory.normal(self.embed_dim, key=1 + 10 * other),
            trajectory.normal(self.action_dim, key=2 + 10 * other),
            trajectory.is_first,
        )

    def observe(self, inputs: Inputs, block: Any = None) -> Any:
        """The states of a sequence, without random samples."""
        with steady():
            return (block or self.block).observe(*inputs)

    def step(self, inputs: Inputs) -> Any:
        """The state of row 0, without random samples."""
        with steady():
            return self.block.observe_step(inputs.carry, *(x[:, 0] for x in inputs[1:]))

    def imagine(self, carry: Any, action: Tensor) -> Any:
        """The state after an action, without a random sample."""
        with steady():
            return self.block.imagine_step(carry, action)

    def prior(self, state: Any) -> Any:
        """The prior of a state."""
        if self._prior is None:
            raise NotApplicable("pass prior=lambda block, state: ... to test it")
        return self._prior(self.block, state)

    def latent(self, state: Any) -> Tensor:
        """The sampled part of a state."""
        if self._latent is None:
            raise NotApplicable("pass latent=lambda state: ... to test it")
        return self._latent(state)


def every(state: Any) -> list[Tensor]:
    """The tensors of a state and its feature."""
    return [*tensors(state), state.feature()]


def some_trajectories(batch: tuple[int, int] = (1, 3), time: tuple[int, int] = (1, 5)) -> Any:
    """Small trajectories."""
    return trajectories(batch=batch, time=time)


def chosen(tree: Any, mask: Tensor) -> list[Tensor]:
    """The rows of every tensor at which a mask `batch time` is set."""
    return [leaf[mask] for leaf in every(tree)]
