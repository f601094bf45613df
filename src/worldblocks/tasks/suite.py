"""Where several tasks are played: environments of each, padded to one world."""

import zlib
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.envs import Environment, EnvVector
from worldblocks.spaces import Actions, Spaces, action_size
from worldblocks.tasks.padding import Padded, union


class TaskSuite:
    """Opens environments of several tasks, all with the observations of one world.

    One environment of each task is opened and closed to see what it is made of.

    Args:
        make: builds an environment of a task, by its name.
        base_tasks: the tasks that the world is made for: what they observe together is observed in
            every task (see `union` and `Padded`).
        others: further tasks that are to be played in that world.
        conditioned: whether actions in the world end with a one-hot of the task.

    Attributes:
        observation: of all tasks.
        actions: of each task, by name.
        width: of an action in the world: the widest of the base tasks', and the one-hot.

    Raises:
        ValueError: observations of one name do not go together, or have no room in the world.
    """

    def __init__(
        self,
        make: Callable[[str], Environment],
        base_tasks: Sequence[str],
        others: Sequence[str] = (),
        *,
        conditioned: bool = False,
    ) -> None:
        self.make, self.base_tasks, self.conditioned = make, list(base_tasks), conditioned
        self.actions: dict[str, Actions] = {}
        observed: dict[str, Spaces] = {}
        for task in dict.fromkeys([*base_tasks, *others]):
            environment = make(task)
            observed[task], self.actions[task] = environment.observation, environment.action
            environment.close()
        self.observation: Spaces = union({task: observed[task] for task in base_tasks})
        self.width = max(action_size(self.actions[task]) for task in base_tasks)
        self.width += conditioned * len(self.base_tasks)

    def padding(self, task: str) -> Float[Tensor, " rest"]:
        """What follows an action of a task in the world: zeros, or the task's one-hot at the end.

        Raises:
            ValueError: the one-hot has no place for the task, or the action has none in the world.
        """
        rest = self.width - action_size(self.actions[task])
        known = task in self.base_tasks or not self.conditioned
        if not known or rest < self.conditioned * len(self.base_tasks):
            raise ValueError(
                f"{task!r} has no place in this world, whose actions are {self.width} numbers wide "
                f"for the tasks {self.base_tasks}; make a world for it too"
            )
        padding = torch.zeros(rest)
        if self.conditioned:
            padding[self.base_tasks.index(task) - len(self.base_tasks)] = 1.0
        return padding

    def envs(self, task: str, n: int, *, seed: int, workers: bool = False) -> EnvVector:
        """`n` environments of one task. Episodes depend only on the seed and the task's name."""
        make = partial(Padded, partial(self.make, task), self.observation)
        return EnvVector([make] * n, seed=seed + zlib.crc32(task.encode()), workers=workers)
