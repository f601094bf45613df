"""A few heads shared by many tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer


class Slots:
    """Assigns a few heads to many tasks: a new task replaces the least recently used one.

    Attributes:
        tasks: the task of each head; None if it is unused.

    Args:
        count: number of heads.

    Raises:
        ValueError: fewer than one head.

    Source: ours; least-recently-used replacement.

    >>> slots = Slots(2)
    >>> slots.use([5, 7]), slots.use([5]), slots.use([9])
    ([0, 1], [], [1])
    >>> slots.tasks
    [5, 9]
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"there must be at least one head, got {count}")
        self.tasks: list[int | None] = [None] * count
        self._used: list[int] = []  # least recently first

    def use(self, tasks: Sequence[int]) -> list[int]:
        """Give each of these tasks a head.

        Returns:
            The heads that were reassigned, whose parameters belong to another task.

        Raises:
            ValueError: there are more tasks than heads.
        """
        wanted = list(dict.fromkeys(tasks))
        if len(wanted) > len(self.tasks):
            raise ValueError(
                f"{len(wanted)} tasks cannot share {len(self.tasks)} heads at once; give as many "
                f"heads, or use fewer tasks"
            )
        changed = []
        for task in [task for task in wanted if task not in self.tasks]:
            free = [None, *(old for old in self._used if old not in wanted)]
            slot = next(self.tasks.index(old) for old in free if old in self.tasks)
            self.tasks[slot] = task
            changed.append(slot)
        self._used = [x for x in self._used if x not in wanted and x in self.tasks] + wanted
        return changed

    def of(self, task: int) -> int:
        """The head of a task.

        Raises:
            KeyError: the task has no head.
        """
        if task not in self.tasks:
            raise KeyError(f"task {task} has no head; {self.tasks} have")
        return self.tasks.index(task)

    def state_dict(self) -> dict[str, Any]:
        """The task of each head, and the order of use."""
        return {"tasks": list(self.tasks), "used": list(self._used)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.tasks, self._used = list(state["tasks"]), list(state["used"])


def renew(head: nn.Module, fresh: nn.Module, optimizer: Optimizer) -> None:
    """Reset a head in place, to reuse it for another task.

    The optimiser's state of the head becomes zeros, so its warm-up starts again.

    Args:
        head: the head to reset.
        fresh: a new head of the same structure, whose values are copied.
        optimizer: the optimiser of the head.
    """
    head.load_state_dict(fresh.state_dict())
    for parameter in head.parameters():
        for moment in optimizer.state.get(parameter, {}).values():
            moment.zero_()
