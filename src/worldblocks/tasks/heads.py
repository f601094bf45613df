"""What a task adds to a world model, and the heads of several tasks."""

import copy
from collections.abc import Iterator

from torch import nn


class TaskHead(nn.Module):
    """What one task adds to a world model that all tasks share.

    Args:
        reward: features to the task's reward.
        actor: features to its policy.
        value: features to its return.
        slow_value: the slow copy of `value`.
        return_scale: the scale of its returns.

    Source: ours; the heads of DreamerV3, once for each task.
    """

    def __init__(
        self,
        *,
        reward: nn.Module,
        actor: nn.Module,
        value: nn.Module,
        slow_value: nn.Module,
        return_scale: nn.Module,
    ) -> None:
        super().__init__()
        self.reward, self.actor, self.value = reward, actor, value
        self.slow_value, self.return_scale = slow_value, return_scale


class TaskHeads(nn.Module):
    """The heads of several tasks, by name and in the order in which they were added.

    A task that comes or goes leaves every other head as it is, to the bit.

    >>> heads = TaskHeads()
    >>> heads.add("walk", nn.Linear(3, 1))
    >>> heads.copy("walk", "run")
    >>> heads.names, bool((heads["walk"].weight == heads["run"].weight).all())
    (['walk', 'run'], True)
    >>> heads.remove("walk")
    >>> heads.names
    ['run']
    """

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()

    @property
    def names(self) -> list[str]:
        """The tasks, in the order of the axis `task`."""
        return list(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, task: object) -> bool:
        return task in self.parts

    def __getitem__(self, task: str) -> nn.Module:
        """The head of a task.

        Raises:
            KeyError: there is no such task.
        """
        if task not in self.parts:
            raise KeyError(f"there is no head of a task {task!r}; there are heads of {self.names}")
        return self.parts[task]

    def add(self, task: str, head: nn.Module) -> None:
        """Put in a head; it becomes the last.

        Raises:
            ValueError: the name is taken, or cannot be that of a module.
        """
        if task in self.parts:
            raise ValueError(f"there is a head of {task!r} already; remove it, or name another")
        if not task or "." in task or hasattr(self.parts, task):
            raise ValueError(
                f"{task!r} cannot be the name of a task, whose head is a module of that name; use "
                f"letters, digits, - and _"
            )
        self.parts[task] = head

    def copy(self, source: str, task: str) -> None:
        """Add a head that begins as a copy of another one, which it does not share.

        Raises:
            KeyError: there is no head to copy.
            ValueError: as of `add`.
        """
        self.add(task, copy.deepcopy(self[source]))

    def remove(self, task: str) -> None:
        """Take a head out.

        Raises:
            KeyError: there is no such task.
        """
        self[task]
        del self.parts[task]


class OneTask(nn.Module):
    """A world and the head of one task as one agent: the modules of both under their own names.

    It shares them: whoever trains it trains the world of all tasks and the head of that one.

    Args:
        world: its children become children of this module, and so do
        head: those of the head.
        options: further attributes.

    Raises:
        ValueError: world and head have a part of the same name.
    """

    def __init__(self, world: nn.Module, head: nn.Module, **options: object) -> None:
        super().__init__()
        ours, theirs = dict(world.named_children()), dict(head.named_children())
        if both := sorted(ours.keys() & theirs.keys()):
            raise ValueError(f"world and head both have {both}; a part is either's, so rename one")
        for name, part in (ours | theirs).items():
            self.add_module(name, part)
        for name, value in options.items():
            setattr(self, name, value)
        self.training = world.training
