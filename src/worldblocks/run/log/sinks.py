"""Where metrics go: JSON lines, TensorBoard, Weights & Biases, behind a protocol of two methods."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from worldblocks.run.extras import extra
from worldblocks.run.folder import read_config


class Sink(Protocol):
    """A destination of metrics. Anything with these two methods can be given to `Logger`.

    Two more are called where a sink has them:

    * `video(step, name, path)`: record a finished GIF file.
    * `resume(step)`: forget what was written at or past `step`, for the run continues there. It
      comes before any write.
    """

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record host numbers by name at an environment step, which never decreases."""
        ...

    def close(self) -> None:
        """Flush and release what is open."""
        ...


class JsonlSink:
    """One JSON object a line: `{"step": 64, ...}`, the other keys sorted.

    Opening cuts a last line that a killed process left half-written. Every line is flushed. A
    number that is not finite is written as `null`, which JSON can hold.
    """

    def __init__(self, path: Path | str) -> None:
        """Args: path: the file, made when the first line is written."""
        self.path = Path(path)
        self._file: BinaryIO | None = None
        if self.path.exists():
            data = self.path.read_bytes()
            self.truncate(data.rfind(b"\n") + 1)

    def write(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Append one line of numbers, or of words."""
        figures = {name: _number(metrics[name]) for name in sorted(metrics)}
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
        """Length of the file in bytes, after making sure that the disk has it."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, offset: int) -> None:
        """Cut the file to its first `offset` bytes; the next line follows there."""
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

    The event file is made at the first write, so that `resume` can tell TensorBoard to hide what
    the killed run wrote after its checkpoint.
    """

    def __init__(self, folder: Path | str) -> None:
        """Args: folder: what to give to `tensorboard --logdir`."""
        extra("tensorboard", "TensorBoardSink")
        self.folder = Path(folder)
        self._purge: int | None = None
        self._writer: Any = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar for each name, flushed."""
        writer = self._open()
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def video(self, step: int, name: str, path: Path) -> None:
        """The GIF as an animated picture in the images tab."""
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
        """Close the event file; a later write begins another one."""
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

    The W&B run has the name of the run folder, so that a resumed run continues it. W&B ignores
    figures at steps that it has seen, and a resumed run gives the same figures once more.
    """

    def __init__(self, logdir: Path | str, **options: Any) -> None:
        """Args:
        logdir: The run folder; its configuration goes along.
        options: For `wandb.init`, such as `project="mazes"`; they replace what is set here.
        """
        self._wandb = extra("wandb", "WandbSink", in_extra=False)
        name = re.sub(r"[^\w.-]+", "-", "-".join(Path(logdir).resolve().parts[-2:]))
        ours = {"dir": str(logdir), "id": name, "name": name, "config": read_config(logdir)}
        self._run = self._wandb.init(**{**ours, "resume": "allow", **options})

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """The figures of one step; several calls at a step are one row."""
        self._run.log(dict(metrics), step=step)

    def video(self, step: int, name: str, path: Path) -> None:
        """The GIF as a video."""
        self._run.log({name: self._wandb.Video(str(path), format="gif")}, step=step)

    def close(self) -> None:
        """Wait until everything is sent."""
        self._run.finish()


SINKS: dict[str, Callable[[Path], Sink]] = {
    "tensorboard": lambda logdir: TensorBoardSink(logdir / "tensorboard"),
    "wandb": lambda logdir: WandbSink(logdir),
}


def named_sinks(names: Sequence[str], logdir: Path) -> list[Sink]:
    """The sinks of a run folder by name, each once: `tensorboard`, `wandb`.

    Raises:
        ValueError: no sink has that name.
    """
    if unknown := [name for name in names if name not in SINKS]:
        raise ValueError(f"no sink is called {unknown[0]!r}; --log takes {', '.join(SINKS)}")
    return [SINKS[name](logdir) for name in dict.fromkeys(names)]


def read_jsonl(path: Path | str) -> list[dict[str, Any]]:
    """The lines of a JSONL file; a missing file has none, a half-written last line is left out.

    Raises:
        ValueError: Another line is not JSON; names it.
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


def _number(value: float | str) -> float | str | None:
    return value if isinstance(value, str) or math.isfinite(value) else None
