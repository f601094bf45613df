"""The traced runs: the preset `smoke` of each recipe, slightly changed, and tools over a run."""

import contextlib
import dataclasses
import functools
import importlib
import io
import re
import tempfile
from pathlib import Path

from traces.record import Trace, digest, trace

RECIPES = ["dreamerv3_atari", "dreamerv3_dmc", "dreamerv3_gym"]
RECIPES += ["multitask_dmc", "multitask_atari", "glam", "glam_policy", "vae"]
RECIPES += ["world_model"]
TOOLS = ["adapt", "instruct"]
NAMES = [*RECIPES, *TOOLS]

SEED = 1  # not the default, so that a forgotten seed shows
# A large step from the first update, so that it shows which copy of the weights is read.
MOVING = {"lr": 1e-3, "warmup": 0}
CHANGES = dict.fromkeys(RECIPES, MOVING) | {
    "glam": {**MOVING, "train_ratio": 2.0},
    "glam_policy": {},
    "vae": {**MOVING, "kl": 0.5},
}
SENTENCES = """
[[sentence]]
instruction = "up with it"
meant = "balance the pole upright"

[[sentence]]
instruction = "round and round"
meant = "spin the pole fast"
"""


def traced(name: str) -> Trace:
    """The trace of one of `NAMES`."""
    with tempfile.TemporaryDirectory() as folder:
        if name in RECIPES:
            return smoke(name, Path(folder))
        return {"adapt": adapt, "instruct": instruct}[name](Path(folder))


def smoke(name: str, folder: Path) -> Trace:
    recipe = importlib.import_module(name)
    seed = 0 if name == "glam" else SEED  # its cached replies are for the mission of seed 0
    changes = {**CHANGES[name], "logdir": str(folder), "seed": seed}
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **changes)
    if name == "world_model":
        data = str(folder / "data")
        with contextlib.redirect_stdout(io.StringIO()):
            recipe.main(dataclasses.replace(cfg, make_data=data))
        cfg = dataclasses.replace(cfg, data=data)
    return trace(recipe, functools.partial(recipe.main, cfg))


def world(task: str, folder: Path) -> Path:
    """A run of one task for the tools; its own trace is dropped."""
    recipe, run = importlib.import_module("multitask_dmc"), folder / "world"
    options = {"tasks": (task,), "steps": 96, "save_every": 0, "judge": 0}
    options |= {**MOVING, "logdir": str(run), "seed": SEED}
    cfg = dataclasses.replace(recipe.PRESETS["smoke"], **options)
    trace(recipe, functools.partial(recipe.main, cfg))
    return run


def adapt(folder: Path) -> Trace:
    """On the replay of another task with the same body, then on its own steps."""
    tool, recipe = importlib.import_module("adapt"), importlib.import_module("multitask_dmc")
    options = {"task": "reacher_hard", "marks": (0, 1200), "train_ratio": 16.0, "before": 2}
    options |= {
        "run": world("reacher_easy", folder),
        "logdir": str(folder / "result"),
        "episodes": 2,
    }
    cfg = tool.Config(**options, device="cpu", seed=SEED)
    return with_result(trace(recipe, functools.partial(tool.main, cfg)), folder / "result")


def instruct(folder: Path) -> Trace:
    """Heads are fitted, critics and actors are trained, then every policy plays."""
    tool, file = importlib.import_module("instruct"), folder / "sentences.toml"
    file.write_text(SENTENCES, encoding="utf-8")
    options = {"by": "oracle", "fit": 2, "updates": 4, "settle": 2, "episodes": 2, "random": 3}
    options |= {
        "run": world("cartpole_balance", folder),
        "logdir": str(folder / "result"),
        "sentences": str(file),
    }
    cfg = tool.Config(**options, device="cpu", seed=SEED)
    return with_result(trace(tool, functools.partial(tool.main, cfg)), folder / "result")


def with_result(found: Trace, folder: Path) -> Trace:
    """Add the numbers that a tool wrote, in their order."""
    text = (folder / "result.json").read_text(encoding="utf-8")
    found["events"].append(["result", {}, digest(re.findall(r"-?\d+\.\d+\S*\d", text))])
    return found
