"""The expected events of each loop that learns from replay, and recorded runs."""

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
# A window takes 4 rows and the one before. After k rows of both environments there are 2 * (k - 4)
# starts, so 10 after row 9: the first update comes after 18 actions. From then on
# 1 + floor((actions - 18) / 3) updates are due in all: 1 at 18 and 20, 2 at 22, 3 at 24 and 26, ...
ONE_TASK = [0] * 8 + [1] + [0, 1, 1] * 5 + [0]  # 50 actions, 11 updates
# Two tasks make 4 actions a turn. 1 + floor((actions - 4) / 3) updates are due in all, counted from
# the first turn: 1, 2, 3, 5, 6, 7, 9, 10 | 11, 13, 14, 15, 17. Those before turn 9 are skipped.
TWO_TASKS = [0] * 8 + [1, 2, 1, 1, 2]  # 26 actions of each task, 7 updates


class Loop(NamedTuple):
    """A recipe, changes to its smoke preset, and the number of updates in each turn of its loop."""

    recipe: ModuleType
    changes: dict[str, Any]
    updates: list[int]
    tasks: int = 1

    @property
    def cfg(self) -> Any:
        given = {**TINY, "steps": ENVS * len(self.updates), **self.changes}
        return dataclasses.replace(self.recipe.PRESETS["smoke"], **given)

    def events(self) -> str:
        """The expected events in order."""
        names, search = [], self.recipe is glam
        for turn, updates in enumerate(self.updates, 1):
            names += ["draw"] * search + ["act", "add", "send"] * self.tasks
            learn = ["sample"] * self.tasks + ["update"] + ["write_back"] * self.tasks + ["metrics"]
            names += learn * updates + ["receive"] * self.tasks
            names += ["sample", "video"] * due(turn, getattr(self.cfg, "video_every", 0))
            names += ["log"] * due(turn, self.cfg.log_every) + ["save"] * due(turn, 20)
        return " ".join([*names, "save"])


def due(turn: int, every: int) -> bool:
    """Whether a turn, of 2 steps, is the first at or after a multiple of `every`."""
    return bool(every) and 2 * turn // every > 2 * (turn - 1) // every


SHOWN = {"video_every": 24}
SEARCH = {"reward": "uniform", "cache": "", "offline": False, "heads": 2, "judge": 0, "seed": 7}
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
    "glam": Loop(glam, SEARCH, ONE_TASK),
}
EVENTS = ["draw", "act", "add", "send", "sample", "update", "write_back", "metrics", "receive"]
EVENTS += ["video", "log", "save"]


class Played:
    """A recorded run of a loop."""

    def __init__(self, loop: Loop, folder: Any) -> None:
        self.loop, self.folder = loop, folder
        image = loop.recipe.__name__.startswith("dreamerv3")
        self.run = recorded(loop.recipe, loop.cfg, folder, image=image)
