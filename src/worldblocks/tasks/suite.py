"""Environments of several tasks, padded to one world model."""

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
    """Opens environments of several tasks, all with the observations of one world model.

    One environment of each task is opened and closed to read its spaces.

    Args:
        make: builds an environment of a task, by name.
        base_tasks: the tasks that the world model is built for. Every task has the union of their
            observations (see `union` and `Padded`).
        others: further tasks for the same world model.
        conditioned: whether actions end with a one-hot of the task.

    Attributes:
        observation: the union of the base tasks' observations.
        actions: action description by task.
        width: width of an action in the world model: the widest of the base tasks, plus the
            one-hot.

    Raises:
        ValueError: observations of the same name cannot be padded to one description.
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
        """The padding of a task's actions: zeros, ending with the task's one-hot if conditioned.

        Raises:
            ValueError: the task is not in the one-hot, or its action is too wide.
        """
        rest = self.width - action_size(self.actions[task])
        known = task in self.base_tasks or not self.conditioned
        if not known or rest < self.conditioned * len(self.base_tasks):
            raise ValueError(
                f"{task!r} does not fit this world model, whose actions are {self.width} numbers "
                f"wide for the tasks {self.base_tasks}; build one with it as a base task"
            )
        padding = torch.zeros(rest)
        if self.conditioned:
            padding[self.base_tasks.index(task) - len(self.base_tasks)] = 1.0
        return padding

    def envs(self, task: str, n: int, *, seed: int, workers: bool = False) -> EnvVector:
        """`n` environments of one task. Episodes depend only on the seed and the task name."""
        make = partial(Padded, partial(self.make, task), self.observation)
        return EnvVector([make] * n, seed=seed + zlib.crc32(task.encode()), workers=workers)
