"""Several tasks on one world model: heads, sampling, padding, rewards computed from features.

The replay of several tasks is `wb.replay.MixtureReplay`, which imports no network.
"""

from worldblocks.tasks.environments import (
    TaskEnvironments,
    changes,
    chosen_task,
    set_tasks,
    tasks_of,
)
from worldblocks.tasks.heads import OneTask, TaskHead, TaskHeads, dreamer_head
from worldblocks.tasks.judgement import judge
from worldblocks.tasks.padding import Padded, PaddedActor, PaddedPolicy, seen, union
from worldblocks.tasks.picture import plot_tasks, principal_axes
from worldblocks.tasks.rewards import control, control_reward, tolerance
from worldblocks.tasks.sampling import LearningProgress, Proportional, TaskSampler, balanced
from worldblocks.tasks.slots import Slots, renew
from worldblocks.tasks.suite import TaskSuite

__all__ = [
    "LearningProgress",
    "OneTask",
    "Padded",
    "PaddedActor",
    "PaddedPolicy",
    "Proportional",
    "Slots",
    "TaskEnvironments",
    "TaskHead",
    "TaskHeads",
    "TaskSampler",
    "TaskSuite",
    "balanced",
    "changes",
    "chosen_task",
    "control",
    "control_reward",
    "dreamer_head",
    "judge",
    "plot_tasks",
    "principal_axes",
    "renew",
    "seen",
    "set_tasks",
    "tasks_of",
    "tolerance",
    "union",
]
