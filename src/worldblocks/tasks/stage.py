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


class Stage:
    """Opens environments of several tasks, all with the observations of one world.

    One environment of each task is opened and closed to see what it is made of.

    Args:
        make: builds an environment of a task, by its name.
        founders: the tasks that the world is made for: what they observe together is observed in
            every task (see `union` and `Padded`).
        others: further tasks that are to be played in that world.
        told: whether actions in the world say, by a one-hot at their end, which task is played.

    Attributes:
        observation: of all tasks.
        actions: of each task, by name.
        width: of an action in the world: the widest of the founders', and the one-hot.

    Raises:
        ValueError: observations of one name do not go together, or have no room in the world.
    """

    def __init__(
        self,
        make: Callable[[str], Environment],
        founders: Sequence[str],
        others: Sequence[str] = (),
        *,
        told: bool = False,
    ) -> None:
        self.make, self.founders, self.told = make, list(founders), told
        self.actions: dict[str, Actions] = {}
        observed: dict[str, Spaces] = {}
        for task in dict.fromkeys([*founders, *others]):
            environment = make(task)
            observed[task], self.actions[task] = environment.observation, environment.action
            environment.close()
        self.observation: Spaces = union({task: observed[task] for task in founders})
        self.width = max(action_size(self.actions[task]) for task in founders)
        self.width += told * len(self.founders)

    def tail(self, task: str) -> Float[Tensor, " rest"]:
        """What follows an action of a task in the world: zeros, or the task's one-hot at the end.

        Raises:
            ValueError: the one-hot has no place for the task, or the action has none in the world.
        """
        rest = self.width - action_size(self.actions[task])
        if rest < self.told * len(self.founders) or (self.told and task not in self.founders):
            raise ValueError(
                f"{task!r} has no place in this world, whose actions are {self.width} numbers wide "
                f"for the tasks {self.founders}; make a world for it too"
            )
        tail = torch.zeros(rest)
        if self.told:
            tail[self.founders.index(task) - len(self.founders)] = 1.0
        return tail

    def envs(self, task: str, n: int, *, seed: int, workers: bool = False) -> EnvVector:
        """So many environments of a task.

        Their episodes follow from the seed and the task's name, whichever tasks are beside it.
        """
        make = partial(Padded, partial(self.make, task), self.observation)
        return EnvVector([make] * n, seed=seed + zlib.crc32(task.encode()), workers=workers)
