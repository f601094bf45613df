"""The head of a task on a shared world model, and the heads of several tasks."""

import copy
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.ema import SlowCopy
from worldblocks.heads import ActorHead, TwoHotHead
from worldblocks.normalize import PercentileScale
from worldblocks.spaces import Actions
from worldblocks.tasks.padding import PaddedActor


class TaskHead(nn.Module):
    """The modules of one task on a world model that all tasks share.

    Args:
        reward: maps features to the task's reward.
        actor: maps features to its policy.
        value: maps features to its return.
        slow_value: the slow copy of `value`.
        return_scale: the scale of its returns.

    Source: ours; the heads of DreamerV3, once per task.
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

    Adding or removing a task leaves every other head unchanged, to the bit.

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
        """The tasks in the order of the axis `task`."""
        return list(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, task: object) -> bool:
        return task in self.names

    def __getitem__(self, task: str) -> nn.Module:
        """The head of a task.

        Raises:
            KeyError: there is no such task.
        """
        if task not in self.parts:
            raise KeyError(f"no head of a task {task!r}; there are heads of {self.names}")
        return self.parts[task]

    def add(self, task: str, head: nn.Module) -> None:
        """Append a head.

        Raises:
            ValueError: the name is taken, or cannot be the name of a module.
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
        """Add a head that starts as a deep copy of another one.

        Raises:
            KeyError: there is no head to copy.
            ValueError: as in `add`.
        """
        self.add(task, copy.deepcopy(self[source]))

    def remove(self, task: str) -> None:
        """Remove a head.

        Raises:
            KeyError: there is no such task.
        """
        self[task]
        del self.parts[task]


class OneTask(nn.Module):
    """The agent of one task: the shared modules and the modules of the task's head, by name.

    The modules are not copied: training it trains the shared world model and the task's head.

    Args:
        agent: a module whose child `heads` is a `TaskHeads`; all its other children are shared.
        task: the name of the task.
        options: further attributes.

    Raises:
        KeyError: there is no such task.
        ValueError: the head has a module with the name of a shared one.

    >>> agent = nn.Module()
    >>> agent.world, agent.heads = nn.Linear(2, 3), TaskHeads()
    >>> agent.heads.add("walk", nn.ModuleDict({"actor": nn.Linear(3, 1)}))
    >>> [name for name, _ in OneTask(agent, "walk").named_children()]
    ['world', 'actor']
    """

    def __init__(self, agent: nn.Module, task: str, **options: object) -> None:
        super().__init__()
        shared = {name: part for name, part in agent.named_children() if name != "heads"}
        own = dict(agent.heads[task].named_children())  # type: ignore[index]
        if both := sorted(shared.keys() & own.keys()):
            raise ValueError(
                f"the head of {task!r} and the shared modules both have {both}; rename one"
            )
        for name, part in (shared | own).items():
            self.add_module(name, part)
        for name, value in options.items():
            setattr(self, name, value)
        self.training = agent.training


def dreamer_head(
    feature_dim: int,
    actions: Actions,
    *,
    units: int,
    width: int,
    padding: Float[Tensor, " rest"] | None = None,
    slow_rate: float = 0.02,
    return_floor: float = 1.0,
) -> TaskHead:
    """The heads of DreamerV3's released code for one of several tasks.

    The reward head has 1 layer, actor and critic have 3. The slow copy moves by `slow_rate` towards
    the critic at each update. Returns are scaled by max(`return_floor`, p95 - p5).

    Args:
        feature_dim: width of the feature vector.
        actions: the task's own action description.
        units: width of every MLP.
        width, padding: of an action in the world model; see `PaddedActor`.
        slow_rate: see `wb.ema.SlowCopy`.
        return_floor: see `wb.normalize.PercentileScale`.

    >>> import torch
    >>> from worldblocks.spaces import Continuous
    >>> head = dreamer_head(7, {"arm": Continuous((2,))}, units=4, width=3)
    >>> head.actor(torch.zeros(5, 7)).sample().shape
    torch.Size([5, 3])
    """
    actor = ActorHead(feature_dim, actions, units=units, layers=3)
    value = TwoHotHead(feature_dim, units=units, layers=3)
    return TaskHead(
        reward=TwoHotHead(feature_dim, units=units, layers=1),
        actor=PaddedActor(actor, width=width, padding=padding),
        value=value,
        slow_value=SlowCopy(value, rate=slow_rate),
        return_scale=PercentileScale(0.01, 5, 95, floor=return_floor),
    )
