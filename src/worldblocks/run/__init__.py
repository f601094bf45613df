"""What a run needs and no paper names: schedules, metrics, checkpoints, progress, report.

Importing this module brings in none of the packages of the extra `run`; each is imported when the
thing that needs it is built.
"""

from worldblocks.run.checkpoint import Checkpoint, Store
from worldblocks.run.curve import plot_curve, running_mean
from worldblocks.run.folder import default_logdir, read_config, resume_command, run_folder
from worldblocks.run.interrupt import Interrupt
from worldblocks.run.logger import Logger
from worldblocks.run.modules import load_module_state
from worldblocks.run.progress import Progress
from worldblocks.run.report import (
    Check,
    format_report,
    held_out,
    image_checks,
    realised_return,
    reward_check,
    value_check,
    write_report,
)
from worldblocks.run.rng import rng_state, set_rng_state
from worldblocks.run.schedule import Every, Ratio
from worldblocks.run.session import Session, Stateful
from worldblocks.run.sinks import JsonlSink, Sink, TensorBoardSink, read_jsonl
from worldblocks.run.video import open_loop_grid, write_gif

__all__ = [
    "Check",
    "Checkpoint",
    "Every",
    "Interrupt",
    "JsonlSink",
    "Logger",
    "Progress",
    "Ratio",
    "Session",
    "Sink",
    "Stateful",
    "Store",
    "TensorBoardSink",
    "default_logdir",
    "format_report",
    "held_out",
    "image_checks",
    "load_module_state",
    "open_loop_grid",
    "plot_curve",
    "read_config",
    "read_jsonl",
    "realised_return",
    "resume_command",
    "reward_check",
    "rng_state",
    "run_folder",
    "running_mean",
    "set_rng_state",
    "value_check",
    "write_gif",
    "write_report",
]
