"""What a run needs and no paper names: schedules, metrics, checkpoints, progress.

Importing this module brings in none of the packages of the extra `run`; each is imported when the
thing that needs it is built.
"""

from worldblocks.run.cli.commands import resume_command, tool_command
from worldblocks.run.cli.errors import sentences
from worldblocks.run.cli.launch import launch, launch_tool
from worldblocks.run.cli.limits import (
    Between,
    Discount,
    NonNegative,
    Positive,
    Seed,
    Share,
    at_least,
    check_options,
    inside,
)
from worldblocks.run.cli.recipe import load_recipe, recipe_of
from worldblocks.run.config import load_config, read_config
from worldblocks.run.curve import plot_curve, running_mean
from worldblocks.run.device.capture import Captured
from worldblocks.run.device.devices import device_of, pick_device, rng_state, set_rng_state
from worldblocks.run.device.memory import MemoryUse, count_memory
from worldblocks.run.export import export
from worldblocks.run.extras import command_line
from worldblocks.run.folder import (
    check_writable,
    default_logdir,
    named_folder,
    result_folder,
    run_folder,
)
from worldblocks.run.log.logger import Logger
from worldblocks.run.log.sinks import (
    JsonlSink,
    Sink,
    SinkName,
    TensorBoardSink,
    WandbSink,
    read_jsonl,
)
from worldblocks.run.loop.interrupt import Interrupt
from worldblocks.run.loop.progress import Progress
from worldblocks.run.loop.run import Run
from worldblocks.run.loop.schedule import Every, Ratio
from worldblocks.run.saves.checkpoint import Checkpoint, Store
from worldblocks.run.saves.environment import load_agent
from worldblocks.run.saves.session import Session, Stateful
from worldblocks.run.saves.weights import load_module_state
from worldblocks.run.video import (
    grid_colours,
    open_loop_grid,
    picture,
    side_by_side,
    subtitled,
    write_gif,
)

__all__ = [
    "Between",
    "Captured",
    "Checkpoint",
    "Discount",
    "Every",
    "Interrupt",
    "JsonlSink",
    "Logger",
    "MemoryUse",
    "NonNegative",
    "Positive",
    "Progress",
    "Ratio",
    "Run",
    "Seed",
    "Session",
    "Share",
    "Sink",
    "SinkName",
    "Stateful",
    "Store",
    "TensorBoardSink",
    "WandbSink",
    "at_least",
    "check_options",
    "check_writable",
    "command_line",
    "count_memory",
    "default_logdir",
    "device_of",
    "export",
    "grid_colours",
    "inside",
    "launch",
    "launch_tool",
    "load_agent",
    "load_config",
    "load_module_state",
    "load_recipe",
    "named_folder",
    "open_loop_grid",
    "pick_device",
    "picture",
    "plot_curve",
    "read_config",
    "read_jsonl",
    "recipe_of",
    "result_folder",
    "resume_command",
    "rng_state",
    "run_folder",
    "running_mean",
    "sentences",
    "set_rng_state",
    "side_by_side",
    "subtitled",
    "tool_command",
    "write_gif",
]
