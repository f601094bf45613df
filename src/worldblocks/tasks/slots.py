"""Few heads for many tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer


class Slots:
    """Which of many tasks has which of a few heads: the task used longest ago gives up its own.

    Attributes:
        tasks: the task of each head; None where none has it yet.

    Args:
        count: heads.

    Raises:
        ValueError: fewer than one head.

    Source: ours; the replacement of least recently used pages.

    >>> slots = Slots(2)
    >>> slots.use([5, 7]), slots.use([5]), slots.use([9])
    ([0, 1], [], [1])
    >>> slots.tasks
    [5, 9]
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"tasks take turns in one head or more, got {count}")
        self.tasks: list[int | None] = [None] * count
        self._used: list[int] = []  # longest ago first

    def use(self, tasks: Sequence[int]) -> list[int]:
        """These tasks are played from now on, all of them at once.

        Returns:
            The heads that changed hands, whose parameters are another task's.

        Raises:
            ValueError: there are more of them than heads.
        """
        wanted = list(dict.fromkeys(tasks))
        if len(wanted) > len(self.tasks):
            raise ValueError(
                f"{len(wanted)} tasks cannot be played at once with {len(self.tasks)} heads; give "
                f"as many heads, or play fewer"
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
            KeyError: it has none.
        """
        if task not in self.tasks:
            raise KeyError(f"task {task} has no head; {self.tasks} have")
        return self.tasks.index(task)

    def state_dict(self) -> dict[str, Any]:
        """Who has which head, and who was used when."""
        return {"tasks": list(self.tasks), "used": list(self._used)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.tasks, self._used = list(state["tasks"]), list(state["used"])


def renew(head: nn.Module, fresh: nn.Module, optimizer: Optimizer) -> None:
    """Begin a head anew, in the tensors that are there: another task's, or a worn-out one.

    What the optimiser remembers of it is zeros afterwards, and a warm-up begins again.

    Args:
        head: which an optimiser trains.
        fresh: a new one of the same kind, whose values it takes on.
        optimizer: of the head.
    """
    head.load_state_dict(fresh.state_dict())
    for parameter in head.parameters():
        for moment in optimizer.state.get(parameter, {}).values():
            moment.zero_()
