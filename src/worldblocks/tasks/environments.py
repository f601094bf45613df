"""Where several tasks are played, and what a run knows of its tasks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from worldblocks.envs import EnvVector
from worldblocks.optim import remove_parameters
from worldblocks.replay import MixtureReplay
from worldblocks.run.folder import read_config
from worldblocks.run.saves.checkpoint import Checkpoint
from worldblocks.run.saves.session import unflatten_like


class TaskEnvironments:
    """Environments of each task, and what the agent carries from row to row in each.

    It is a part of a `wb.run.Session`: a resumed run goes on in mid-episode in every task.
    """

    def __init__(self) -> None:
        self.envs: dict[str, EnvVector] = {}
        self.acting: dict[str, Any] = {}

    @property
    def tasks(self) -> list[str]:
        """The tasks, in the order in which they were added."""
        return list(self.envs)

    def __iter__(self) -> Iterator[tuple[str, EnvVector]]:
        """Each task with its environments."""
        return iter(list(self.envs.items()))

    @property
    def stopped(self) -> str:
        """Why it is no use to go on, of whichever task; "" while there is no reason."""
        return "".join(envs.stopped for envs in self.envs.values())

    def add(self, task: str, envs: EnvVector, acting: Any) -> None:
        """Begin to play a task: its environments are reset, `acting` is that of a first row.

        Raises:
            ValueError: it is played already.
        """
        if task in self.envs:
            raise ValueError(f"{task!r} is played already; remove it before it is added again")
        envs.reset()
        self.envs[task], self.acting[task] = envs, acting

    def remove(self, task: str) -> None:
        """Close the environments of a task and forget it.

        Raises:
            KeyError: it is not played.
        """
        if task not in self.envs:
            raise KeyError(f"{task!r} is not played here; {self.tasks} are")
        self.envs.pop(task).close()
        del self.acting[task]

    def close(self) -> None:
        """Close the environments of every task."""
        for envs in self.envs.values():
            envs.close()

    def state_dict(self) -> dict[str, Any]:
        """Where every environment is, and the tensors that are carried."""
        leaves = {task: pytree.tree_leaves(acting) for task, acting in self.acting.items()}
        return {"envs": {k: own.state_dict() for k, own in self.envs.items()}, "carry": leaves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`, in the same tasks.

        Raises:
            ValueError: it is of other tasks.
        """
        if list(state["envs"]) != self.tasks:
            raise ValueError(
                f"the state is of the tasks {list(state['envs'])} and {self.tasks} are played; add "
                f"those that were played when it was saved"
            )
        for task, envs in self.envs.items():
            envs.load_state_dict(state["envs"][task])
            self.acting[task] = unflatten_like(self.acting[task], state["carry"][task])


def tasks_of(run: Path | str, tasks: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tasks that the world of a run was made for, and those that its checkpoint has.

    The first are `tasks` in its `config.json`, the others `tasks` in the position that was saved.

    Args:
        run: a run folder, or where one is to be.
        tasks: both, where there is none yet.
    """
    run = Path(run)
    base_tasks = read_config(run)["tasks"] if (run / "config.json").exists() else tasks
    checkpoint = Checkpoint(run)
    saved = checkpoint.header()["position"]["tasks"] if checkpoint.exists() else base_tasks
    return tuple(base_tasks), tuple(saved)


def changes(saved: Sequence[str], wanted: Sequence[str]) -> str:
    """A line for each task that leaves a run or joins it; nothing where they are the same.

    >>> print(changes(["walk", "run"], ["run", "stand"]), end="")
    walk leaves, with its head and its rows
    stand joins

    Raises:
        ValueError: none stays: all that was learnt of policies would leave.
    """
    if not set(saved) & set(wanted):
        raise ValueError(
            f"the run has learnt {', '.join(saved)}, and --tasks names {', '.join(wanted)} alone; "
            f"name one of the former too, or begin another run"
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
    """Let exactly these tasks be trained on: others leave, those that are new join.

    A task that leaves takes with it its head, what the optimiser remembers of the head, its rows
    and its environments. Whatever belongs to a task that stays is as before, to the bit.

    Args:
        tasks: wanted; new ones join in this order, behind those that stay.
        agent: has `heads`, a `TaskHeads`; `head(task)` gives a new one and `initial(n)` the first
            carry of n environments.
        optimizer: the parameters of a new head become a new group of it.
        replay, task_envs: of the same tasks.
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
    """The parameters that take a gradient: those of a slow copy take none."""
    return [parameter for parameter in head.parameters() if parameter.requires_grad]
