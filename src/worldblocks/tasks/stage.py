"""Where several tasks are played: environments of each, padded to one world."""

import zlib
from collections.abc import Callable, Sequence
from functools import partial

from worldblocks.envs import Environment, EnvVector
from worldblocks.spaces import Actions, Spaces
from worldblocks.tasks.padding import Padded, union


class Stage:
    """Opens environments of several tasks, all with the observations of one world.

    One environment of each task is opened and closed to see what it is made of.

    Args:
        make: a task's name to what builds one of its environments.
        founders: the tasks that the world is made for: what they observe together is observed in
            every task (see `union` and `Padded`).
        others: further tasks that are to be played in that world.

    Attributes:
        observation: of all tasks.
        actions: of each task, by name.

    Raises:
        ValueError: observations of one name do not go together, or have no room in the world.
    """

    def __init__(
        self,
        make: Callable[[str], Callable[[], Environment]],
        founders: Sequence[str],
        others: Sequence[str] = (),
    ) -> None:
        self.make, observed, self.actions = make, {}, {}
        for task in dict.fromkeys([*founders, *others]):
            environment = make(task)()
            observed[task], self.actions[task] = environment.observation, environment.action
            environment.close()
        self.observation: Spaces = union({task: observed[task] for task in founders})
        self.actions: dict[str, Actions]

    def envs(self, task: str, n: int, *, seed: int, workers: bool = False) -> EnvVector:
        """So many environments of a task.

        Their episodes follow from the seed and the task's name, whichever tasks are beside it.
        """
        make = partial(Padded, self.make(task), self.observation)
        return EnvVector([make] * n, seed=seed + zlib.crc32(task.encode()), workers=workers)
