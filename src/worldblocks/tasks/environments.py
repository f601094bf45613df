"""The environments of several tasks, and the tasks of a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from worldblocks.envs import EnvVector
from worldblocks.envs.errors import unknown
from worldblocks.optim import remove_parameters
from worldblocks.replay import MixtureReplay
from worldblocks.run.config import read_config
from worldblocks.run.saves.checkpoint import Checkpoint
from worldblocks.run.saves.session import unflatten_like, with_prev_action
from worldblocks.spaces import action_size


class TaskEnvironments:
    """The environments of each task, and what the agent carries from row to row in each.

    As a part of a `wb.run.Session`, it lets a resumed run continue every task in mid-episode.
    """

    def __init__(self) -> None:
        self.envs: dict[str, EnvVector] = {}
        self.acting: dict[str, Any] = {}

    @property
    def tasks(self) -> list[str]:
        """The tasks in the order in which they were added."""
        return list(self.envs)

    def __iter__(self) -> Iterator[tuple[str, EnvVector]]:
        """Each task with its environments."""
        return iter(list(self.envs.items()))

    @property
    def stopped(self) -> str:
        """Reason the run must stop, from any task; empty while there is none."""
        return "".join(envs.stopped for envs in self.envs.values())

    def add(self, task: str, envs: EnvVector, acting: Any) -> None:
        """Add a task and reset its environments; `acting` is what the agent carries at first.

        Raises:
            ValueError: the task is there already.
        """
        if task in self.envs:
            raise ValueError(
                f"{task!r} has environments already; remove it before it is added again"
            )
        envs.reset()
        self.envs[task], self.acting[task] = envs, acting

    def remove(self, task: str) -> None:
        """Close the environments of a task and remove it.

        Raises:
            KeyError: there is no such task.
        """
        if task not in self.envs:
            raise KeyError(f"{task!r} has no environments here; {self.tasks} have")
        self.envs.pop(task).close()
        del self.acting[task]

    def close(self) -> None:
        """Close the environments of every task."""
        for envs in self.envs.values():
            envs.close()

    def state_dict(self) -> dict[str, Any]:
        """The state of every environment, and the tensors that the agent carries."""
        leaves = {task: pytree.tree_leaves(acting) for task, acting in self.acting.items()}
        return {"envs": {k: own.state_dict() for k, own in self.envs.items()}, "carry": leaves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict` of the same tasks.

        Raises:
            ValueError: the state has other tasks.
        """
        if list(state["envs"]) != self.tasks:
            raise ValueError(
                f"the state has the tasks {list(state['envs'])}, but {self.tasks} were added; add "
                f"those of the state"
            )
        for task, envs in self.envs.items():
            own, carried = state["envs"][task], state["carry"][task]
            size = action_size(envs.action)
            envs.load_state_dict(with_prev_action(own, carried, size))
            self.acting[task] = unflatten_like(self.acting[task], carried)


def tasks_of(run: Path | str, tasks: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The base tasks of a run, and the tasks in its checkpoint.

    The base tasks are `tasks` in `config.json`, the others `tasks` in the saved position.

    Args:
        run: the run folder, which need not exist yet.
        tasks: the tasks of a new run, returned for both.
    """
    run = Path(run)
    base_tasks = read_config(run)["tasks"] if (run / "config.json").exists() else tasks
    checkpoint = Checkpoint(run)
    saved = checkpoint.header()["position"]["tasks"] if checkpoint.exists() else base_tasks
    return tuple(base_tasks), tuple(saved)


def chosen_task(run: Path | str, task: str, several: bool, option: str = "--task") -> str:
    """The task that a tool plays: `task`, by default the first of the run; "" if it has only one.

    Args:
        run: the run folder.
        task: the value of `--task`.
        several: whether the recipe of the run has tasks.
        option: the option's name, for the message.

    Raises:
        ValueError: the run has one task and `task` is given, or it has no such task.
    """
    if not several:
        if task:
            raise ValueError(f"{run} has one task; --task is for a run with several")
        return ""
    _, tasks = tasks_of(run, ())
    if task and task not in tasks:
        raise unknown(f"task of {run}", task, tasks, f"{option} takes one of {', '.join(tasks)}")
    return task or tasks[0]


def changes(saved: Sequence[str], wanted: Sequence[str]) -> str:
    """One line for each task that leaves or joins a run; empty if none does.

    >>> print(changes(["walk", "run"], ["run", "stand"]), end="")
    walk leaves, with its head and its rows
    stand joins

    Raises:
        ValueError: no task stays, so every learnt policy would be lost.
    """
    if not set(saved) & set(wanted):
        raise ValueError(
            f"the run has learnt {', '.join(saved)}, and --tasks names {', '.join(wanted)} alone; "
            f"name one of the former too, or start another run"
        )
    gone = [f"{task} leaves, with its head and its rows\n" for task in saved if task not in wanted]
    return "".join(gone + [f"{task} joins\n" for task in wanted if task not in saved])


def set_tasks(
    tasks: Sequence[str],
    agent: Any,
    optimizer: Optimizer,
    replay: MixtureReplay,
    task_envs: TaskEnvironments,
    envs: Callable[[str], EnvVector],
) -> None:
    """Train on exactly these tasks: remove the others, add the new ones.

    For each removed task, its head, the optimiser's state of the head, its rows and its
    environments are removed. Tasks that stay are unchanged, to the bit.

    Args:
        tasks: the wanted tasks; new ones are added in this order, after those that stay.
        agent: has `heads`, a `TaskHeads`; `head(task)` returns a new head and `initial(n)` the
            first carry of n environments.
        optimizer: gets one parameter group per new head.
        replay, task_envs: have the same tasks.
        envs: opens the environments of a task.
    """
    for task in [task for task in task_envs.tasks if task not in tasks]:
        remove_parameters(optimizer, trained(agent.heads[task]))
        agent.heads.remove(task)
        replay.remove_task(task)
        task_envs.remove(task)
    for task in [task for task in tasks if task not in task_envs.tasks]:
        agent.heads.add(task, agent.head(task))
        optimizer.add_param_group({"params": trained(agent.heads[task])})
        replay.add_task(task)
        opened = envs(task)
        task_envs.add(task, opened, agent.initial(len(opened)))


def trained(head: nn.Module) -> list[nn.Parameter]:
    """The parameters with a gradient; those of a slow copy have none."""
    return [parameter for parameter in head.parameters() if parameter.requires_grad]
