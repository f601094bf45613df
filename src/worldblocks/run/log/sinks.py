"""Destinations of metrics: JSON lines, TensorBoard, Weights & Biases."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from worldblocks.run.config import read_config
from worldblocks.run.extras import extra


class Sink(Protocol):
    """A destination of metrics: anything with these two methods.

    `Logger` calls two more methods if a sink has them:

    * `video(step, name, path)`: record a finished GIF file.
    * `resume(step)`: drop what was written at or past `step`, where the run continues. It is called
      before any write.
    """

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record numbers by name at an environment step, which never decreases."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class JsonlSink:
    """One JSON object per line: `{"step": 64, ...}`, the other keys sorted.

    Opening a file drops an incomplete last line, as a killed process leaves it. Every line is
    flushed. A number that is not finite is written as `null`.
    """

    def __init__(self, path: Path | str) -> None:
        """Args: path: the file, created with its first line."""
        self.path = Path(path)
        self._file: BinaryIO | None = None
        if self.path.exists():
            data = self.path.read_bytes()
            self.truncate(data.rfind(b"\n") + 1)

    def write(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Append one line of numbers or strings."""
        figures = {}
        for name, value in sorted(metrics.items()):
            finite = isinstance(value, str) or math.isfinite(value)
            figures[name] = value if finite else None
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        self._file.write(json.dumps({"step": step, **figures}).encode() + b"\n")
        self._file.flush()

    def resume(self, step: int) -> None:
        """Drop the first line at or past `step` and all after it."""
        if not self.path.exists():
            return
        kept = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            if json.loads(line)["step"] >= step:
                break
            kept += len(line)
        self.truncate(kept)

    def offset(self) -> int:
        """Length of the file in bytes, after syncing it to disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, offset: int) -> None:
        """Cut the file to its first `offset` bytes."""
        self.close()
        if self.path.exists() and self.path.stat().st_size > offset:
            os.truncate(self.path, offset)

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoardSink:
    """TensorBoard event files, through `torch.utils.tensorboard`.

    The event file is created by the first write. `resume` before it makes TensorBoard hide the
    events that a killed run wrote after its checkpoint.
    """

    def __init__(self, folder: Path | str) -> None:
        """Args: folder: the folder for `tensorboard --logdir`."""
        extra("tensorboard", "TensorBoardSink")
        self.folder = Path(folder)
        self._purge: int | None = None
        self._writer: Any = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write and flush one scalar per name."""
        writer = self._open()
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def video(self, step: int, name: str, path: Path) -> None:
        """Show the GIF, animated, in the images tab."""
        summary = extra("tensorboard.compat.proto.summary_pb2", "TensorBoardSink").Summary
        image = summary.Image(colorspace=3, encoded_image_string=path.read_bytes())
        writer = self._open()
        events = summary(value=[summary.Value(tag=name, image=image)])
        writer.file_writer.add_summary(events, step)
        writer.flush()

    def resume(self, step: int) -> None:
        """Hide the events at or past `step` of earlier event files."""
        self.close()
        self._purge = step

    def close(self) -> None:
        """Close the event file; a later write creates another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        if self._writer is None:
            module = extra("torch.utils.tensorboard", "TensorBoardSink")
            self._writer = module.SummaryWriter(str(self.folder), purge_step=self._purge)
            self._purge = None
        return self._writer


class WandbSink:
    """Weights & Biases, through the package `wandb`: `pip install wandb`, then `wandb login`.

    The W&B run is named after the run folder, so a resumed run continues it. W&B ignores figures at
    steps it has already seen; a resumed run logs the same figures for them.
    """

    def __init__(self, logdir: Path | str, **options: Any) -> None:
        """Args:
        logdir: The run folder; its configuration is uploaded.
        options: For `wandb.init`, such as `project="mazes"`; they override the defaults.
        """
        self._wandb = extra("wandb", "WandbSink", extras=())
        name = re.sub(r"[^\w.-]+", "-", "-".join(Path(logdir).resolve().parts[-2:]))
        ours = {"dir": str(logdir), "id": name, "name": name, "config": read_config(logdir)}
        self._run = self._wandb.init(**{**ours, "resume": "allow", **options})

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the figures of a step; several calls at one step form one row."""
        self._run.log(dict(metrics), step=step)

    def video(self, step: int, name: str, path: Path) -> None:
        """Log the GIF as a video."""
        self._run.log({name: self._wandb.Video(str(path), format="gif")}, step=step)

    def close(self) -> None:
        """Wait until everything is uploaded."""
        self._run.finish()


SinkName = Literal["tensorboard", "wandb"]
"""The sinks that `--log` takes."""

SINKS: dict[SinkName, Callable[[Path], Sink]] = {
    "tensorboard": lambda logdir: TensorBoardSink(logdir / "tensorboard"),
    "wandb": lambda logdir: WandbSink(logdir),
}


def named_sinks(names: Sequence[SinkName], logdir: Path) -> list[Sink]:
    """The sinks of these names (`tensorboard`, `wandb`) for a run folder, each once.

    Raises:
        ValueError: there is no sink of a name.
    """
    if unknown := [name for name in names if name not in SINKS]:
        raise ValueError(f"no sink is called {unknown[0]!r}; --log takes {', '.join(SINKS)}")
    return [SINKS[name](logdir) for name in dict.fromkeys(names)]


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The lines of a JSONL file; none if it is missing. An incomplete last line is skipped.

    Raises:
        ValueError: Another line is not JSON.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_bytes().rpartition(b"\n")[0].splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"line {number} of {path} is not JSON; restore the file from a copy, or delete "
                f"that line"
            ) from error
    return lines
