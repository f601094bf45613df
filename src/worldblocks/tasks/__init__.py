"""Several tasks on one world model: heads, sampling, padding, rewards known from features.

The replay of several tasks is `wb.replay.MixtureReplay`, which imports no network.
"""

from worldblocks.tasks.control import control_reward, tolerance
from worldblocks.tasks.episodes import Player, play_episodes, random_policy, verdict
from worldblocks.tasks.heads import OneTask, TaskHead, TaskHeads
from worldblocks.tasks.padding import Padded, PaddedActor, PaddedPolicy, seen, union
from worldblocks.tasks.picture import plot_tasks, principal_axes
from worldblocks.tasks.sampling import LearningProgress, Proportional, TaskSampler, balanced

__all__ = [
    "LearningProgress",
    "OneTask",
    "Padded",
    "PaddedActor",
    "PaddedPolicy",
    "Player",
    "Proportional",
    "TaskHead",
    "TaskHeads",
    "TaskSampler",
    "balanced",
    "control_reward",
    "play_episodes",
    "plot_tasks",
    "principal_axes",
    "random_policy",
    "seen",
    "tolerance",
    "union",
    "verdict",
]
