"""The table of what a loop has to do, and a run of each recipe that learns from replay."""

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

from recorded_runs import recorded

import dreamerv3_atari
import dreamerv3_dmc
import dreamerv3_gym
import glam
import multitask_atari
import multitask_dmc

BATCH, LENGTH, ENVS = 3, 4, 2
TINY: dict[str, Any] = {
    "envs": ENVS,
    "batch": BATCH,
    "length": LENGTH,
    "train_ratio": 4.0,  # 4 rows an action, 3 * 4 rows an update: an update for 3 actions
    "prefill": 10,
    "capacity": 40,
    "log_every": 16,
    "save_every": 20,
    "units": 8,
    "deter": 16,
    "classes": 3,
    "depth": 2,
    "groups": 2,
    "blocks": 2,
    "horizon": 2,
    "imag_last": 0,
    "lr": 1e-2,
    "warmup": 0,
    "workers": False,
}
# A window takes 4 rows and one before them. After k rows of both environments there are 2 * (k - 4)
# starts, so 10 of them after row 9: the first update is after 18 actions. From there on
# 1 + floor((actions - 18) / 3) updates are due: 1 of them at 18, 20; 2 at 22; 3 at 24, 26; ...
ONE_TASK = [0] * 8 + [1] + [0, 1, 1] * 5 + [0]  # 50 actions, 11 updates
# Two tasks make 4 actions a turn, of which 1 + floor((actions - 4) / 3) are counted from the first
# turn on: 1, 2, 3, 5, 6, 7, 9, 10 | 11, 13, 14, 15, 17. What was due before the ninth is not made.
TWO_TASKS = [0] * 8 + [1, 2, 1, 1, 2]  # 26 actions of each task, 7 updates


class Loop(NamedTuple):
    """A recipe, what is changed of its smoke preset, and the updates of each turn of its loop."""

    recipe: ModuleType
    changes: dict[str, Any]
    updates: list[int]
    tasks: int = 1

    @property
    def cfg(self) -> Any:
        given = {**TINY, "steps": ENVS * len(self.updates), **self.changes}
        return dataclasses.replace(self.recipe.PRESETS["smoke"], **given)

    def events(self) -> str:
        """What is to happen, turn by turn."""
        said, search = [], self.recipe is glam
        for turn, updates in enumerate(self.updates, 1):
            said += ["draw"] * search + ["act", "add", "send"] * self.tasks
            learn = ["sample"] * self.tasks + ["update"] + ["write_back"] * self.tasks + ["metrics"]
            said += learn * updates + ["receive"] * self.tasks
            said += ["sample", "video"] * due(turn, getattr(self.cfg, "video_every", 0))
            said += ["log"] * due(turn, self.cfg.log_every) + ["save"] * due(turn, 20)
        return " ".join([*said, "save"])


def due(turn: int, every: int) -> bool:
    """Whether a turn is the first at or past a multiple; a turn is 2 steps."""
    return bool(every) and 2 * turn // every > 2 * (turn - 1) // every


SHOWN = {"video_every": 24}
QUEST = {"reward": "uniform", "cache": "", "offline": False, "heads": 2, "judge": 0, "seed": 7}
LOOPS = {
    "dreamerv3_atari": Loop(dreamerv3_atari, SHOWN, ONE_TASK),
    "dreamerv3_dmc": Loop(dreamerv3_dmc, SHOWN, ONE_TASK),
    "dreamerv3_gym": Loop(dreamerv3_gym, SHOWN, ONE_TASK),
    "multitask_dmc": Loop(multitask_dmc, {"judge": 0, "log_every": 11}, TWO_TASKS, 2),
    "multitask_atari": Loop(
        multitask_atari,
        {"tasks": ("pong", "boxing"), "report_steps": 0, "log_every": 11},
        TWO_TASKS,
        2,
    ),
    "glam": Loop(glam, QUEST, ONE_TASK),
}
EVENTS = ["draw", "act", "add", "send", "sample", "update", "write_back", "metrics", "receive"]
EVENTS += ["video", "log", "save"]


class Played:
    """A run of a loop, written down."""

    def __init__(self, loop: Loop, folder: Any) -> None:
        self.loop, self.folder = loop, folder
        image = loop.recipe.__name__.startswith("dreamerv3")
        self.run = recorded(loop.recipe, loop.cfg, folder, image=image)
