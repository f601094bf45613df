"""One run of a recipe: everything around the training loop in one `with` block."""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from worldblocks.run.cli.commands import resume_command, tool_command
from worldblocks.run.config import MAY_CHANGE, read_config
from worldblocks.run.folder import named_folder, run_folder
from worldblocks.run.log.logger import Logger
from worldblocks.run.log.sinks import named_sinks
from worldblocks.run.loop.interrupt import Interrupt
from worldblocks.run.loop.progress import Progress
from worldblocks.run.loop.warnings import LONG, at_the_start, no_episode
from worldblocks.run.saves.checkpoint import Checkpoint, Store
from worldblocks.run.saves.environment import (
    changed_versions,
    check_same_spaces,
    record_environment,
)
from worldblocks.run.saves.session import Session, Stateful
from worldblocks.spaces import Image

LARGE = 128
"""The side of an image beyond which a run says what it costs."""


class Run:
    """The folder, log, checkpoint, progress display and signal handling of one run.

    The loop stays in the recipe, which decides when to act, learn, log and save.

        with wb.run.Run(cfg, __file__, parts) as run:
            step, carry = run.restore(step=0, carry=agent.initial(cfg.envs)).values()
            while not run.must_stop(envs.stopped) and step < cfg.steps:
                ...
            completed = run.finish(step=step, carry=carry)
        return run.exit_code

    Args:
        cfg: the recipe's configuration, a dataclass with the fields `steps`, `logdir`, `resume` and
            `log`, the names of sinks.
        recipe: the recipe's `__file__`. Its name is saved, so that tools find the recipe.
        parts: parts to save and restore, by name; see `Session`. The logger is added.
        may_change: further fields of `cfg` that a resumed run may change.

    Attributes:
        folder: the run folder.
        logger: writes metrics, episodes and videos there.
        progress: the display; set by `restore`.

    Raises:
        FileExistsError, FileNotFoundError, NotADirectoryError, ValueError: as in `run_folder`.
    """

    progress: Progress

    def __init__(
        self,
        cfg: Any,
        recipe: str,
        parts: Mapping[str, Stateful | Store],
        *,
        may_change: Collection[str] = (),
    ) -> None:
        may_change = (*MAY_CHANGE, *may_change)
        config = {**dataclasses.asdict(cfg), "recipe": Path(recipe).stem}
        self._open = functools.partial(
            run_folder, named_folder(cfg.logdir), config, cfg.resume, may_change=may_change
        )
        self.folder = self._open(write=not cfg.resume)  # else once it is known that it resumes
        checkpoint = Checkpoint(self.folder)
        try:
            sinks = named_sinks(cfg.log, self.folder)
        except Exception:
            if not cfg.resume:  # so that the corrected command finds no run here
                (self.folder / "config.json").unlink()
            raise
        resume_at = None if checkpoint.exists() else 0
        self.logger = Logger(self.folder, resume_at=resume_at, sinks=sinks)
        self._session = Session(checkpoint, {**parts, "logger": self.logger})
        self._cfg, self._recipe = cfg, recipe
        self._interrupt, self._failure, self._told = Interrupt(), "", False
        self._loop = ExitStack()  # signals and the display
        self._costs = _costs(parts)

    def __enter__(self) -> "Run":
        self._loop.enter_context(self._interrupt)
        print(f"run folder {self.folder}", *self._costs, sep="\n", flush=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.close()
        self.logger.close()

    def restore(self, **position: Any) -> dict[str, Any]:
        """Load the last checkpoint, if there is one, and start the progress display.

        Args:
            position: the position of a new run, including `step`; see `Session.restore`.

        Raises:
            ValueError: a part does not fit, or `steps` is below what the run has made. The folder
                is unchanged.
        """
        check_same_spaces(self.folder, self._session.parts)
        restored = self._session.restore(**position)
        if not self._cfg.resume:
            record_environment(self.folder, self._session.parts)
        elif told := changed_versions(self.folder):
            print(told)
        step, steps = restored["step"], self._cfg.steps
        if self._cfg.resume:
            if steps < min(step, read_config(self.folder).get("steps", 0)):
                raise ValueError(
                    f"{self.folder} has made {step} steps already and cannot resume with --steps "
                    f"{steps}; give more than {step}"
                )
            self._open(write=True)
        if step and step >= steps:
            print(f"all {steps} steps were made already; give a larger --steps to make more")
        else:
            for never in at_the_start(self._cfg):
                print(never)
        self.progress = self._loop.enter_context(Progress(steps, step))
        return restored

    def must_stop(self, failure: str = "") -> bool:
        """Whether a signal or a failure ends the loop early.

        Args:
            failure: why the environments must stop, such as `EnvVector.stopped`; "" if they need
                not.
        """
        self._failure = failure
        return self._interrupt.requested or bool(failure)

    def log(self, step: int, **figures: Any) -> dict[str, float]:
        """Write a line of metrics (see `Logger.write`) and one of rates."""
        written = self.logger.write(step, figures)
        self.logger.timing(step, self.progress.rates())
        return written

    def show(self, step: int, updates: int | None = None, **figures: Any) -> None:
        """Update the progress display; by default with the number and mean score of episodes."""
        if step >= LONG and updates is not None and not (self.logger.episodes or self._told):
            self._told = True
            print(no_episode(step), flush=True)
        figures = figures or {"episodes": self.logger.episodes, "score": self.logger.score}
        self.progress.update(step, updates=updates, **figures)

    def save(self, **position: Any) -> None:
        """Save every part and the position; see `Session.save`."""
        self._session.save(**position)

    def finish(self, **position: Any) -> bool:
        """End the loop: save, close the display and restore the signal handlers.

        Returns:
            Whether the run is complete. If not, the command that continues it is printed.
        """
        self.save(**position)
        self._loop.close()
        early = self._interrupt.requested or bool(self._failure)
        if early:
            command = resume_command(self.folder)
            print(f"{self._failure}saved at step {position['step']}; continue with:\n  {command}")
        elif "updates" in position:  # a loop that acts and learns
            if not position["updates"]:
                print("this run made no update: the agent is as it began")
            if not (self.logger.episodes or self._told):
                print(no_episode(position["step"]))
        return not early

    def command(self, tool: str, *options: str) -> str:
        """The command line of a tool over this run, such as `evaluate.py`; see `tool_command`."""
        return tool_command(tool, self.folder, self._recipe, *options)

    @property
    def exit_code(self) -> int:
        """Exit code of the process: 128 + the number of a signal, 1 for a failure, else 0."""
        return self._interrupt.exit_code or int(bool(self._failure))


def _costs(parts: Mapping[str, Any]) -> list[str]:
    """A line about large images, if the environments show any."""
    spaces = dict(getattr(parts.get("envs"), "observation", {}))
    images = [space for space in spaces.values() if isinstance(space, Image)]
    if not any(max(image.height, image.width) > LARGE for image in images):
        return []
    sizes = ", ".join(f"{image.height}×{image.width}" for image in images)
    times = sum(image.height * image.width for image in images) / 64**2
    return [
        f"images of {sizes}: convolutions and replay cost about {times:.0f} times those of one of "
        f"64×64; --image 64 resizes"
    ]
