"""What a run needs and no paper names: schedules, metrics, checkpoints, progress.

Importing this module brings in none of the packages of the extra `run`; each is imported when the
thing that needs it is built.
"""

from worldblocks.run.capture import Captured
from worldblocks.run.checkpoint import Checkpoint, Store
from worldblocks.run.curve import plot_curve, running_mean
from worldblocks.run.export import export
from worldblocks.run.folder import (
    default_logdir,
    load_config,
    read_config,
    resume_command,
    run_folder,
)
from worldblocks.run.interrupt import Interrupt
from worldblocks.run.logger import Logger
from worldblocks.run.memory import MemoryUse, count_memory
from worldblocks.run.modules import device_of, load_module_state, pick_device
from worldblocks.run.progress import Progress
from worldblocks.run.recipe import load_recipe, recipe_of
from worldblocks.run.rng import rng_state, set_rng_state
from worldblocks.run.run import Run
from worldblocks.run.schedule import Every, Ratio
from worldblocks.run.session import Session, Stateful
from worldblocks.run.sinks import JsonlSink, Sink, TensorBoardSink, WandbSink, read_jsonl
from worldblocks.run.start import launch
from worldblocks.run.video import open_loop_grid, subtitled, write_gif

__all__ = [
    "Captured",
    "Checkpoint",
    "Every",
    "Interrupt",
    "JsonlSink",
    "Logger",
    "MemoryUse",
    "Progress",
    "Ratio",
    "Run",
    "Session",
    "Sink",
    "Stateful",
    "Store",
    "TensorBoardSink",
    "WandbSink",
    "count_memory",
    "default_logdir",
    "device_of",
    "export",
    "launch",
    "load_config",
    "load_module_state",
    "load_recipe",
    "open_loop_grid",
    "pick_device",
    "plot_curve",
    "read_config",
    "read_jsonl",
    "recipe_of",
    "resume_command",
    "rng_state",
    "run_folder",
    "running_mean",
    "set_rng_state",
    "subtitled",
    "write_gif",
]
