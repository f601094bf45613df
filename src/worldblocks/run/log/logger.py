"""Metrics of a run: averaged between writes, written as JSON lines, continued exactly."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from worldblocks.run.log.sinks import JsonlSink, Sink, named_sinks
from worldblocks.run.video import write_gif

# A number, or a 0-dim tensor on any device.
Metric = Any


class Logger:
    """Collects metrics and writes them into a run folder.

    * `metrics.jsonl`: the means of `add`, one line for each `write`. Log only functions of the seed
      here: two runs of the same seed, or one that was killed and resumed, write the same bytes.
    * `episodes.jsonl`: one line per finished episode.
    * `failures.jsonl`: one line per failure of an environment in a worker.
    * `timing.jsonl`: wall-clock figures, which differ from run to run.
    * `videos/*.gif`.

    All but failures goes to every sink as well: TensorBoard by default.

    `add` never waits for a device: it sums tensors on their device, all in one kernel, and `write`
    copies the sums to the host.
    """

    def __init__(
        self,
        logdir: Path | str,
        *,
        resume_at: int | None = None,
        sinks: Sequence[Sink] | None = None,
    ) -> None:
        """Open a run folder; nothing is written yet.

        Args:
            logdir: The run folder.
            resume_at: Drop the lines of earlier processes at or past this step (0: all of them).
                `load_state_dict` drops them to the byte. Without either, lines are appended.
            sinks: Further destinations; TensorBoard if None. More can be appended to `sinks`.
        """
        self.logdir = Path(logdir)
        names = ("metrics", "timing", "episodes", "failures")
        self._files = {name: JsonlSink(self.logdir / f"{name}.jsonl") for name in names}
        self.sinks = named_sinks(["tensorboard"], self.logdir) if sinks is None else list(sinks)
        self._numbers: dict[str, float] = {}
        self._tensors: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._step = -1
        self._scores: list[float] = []
        self._by_task: dict[str, list[float]] = {}
        self.episodes = 0
        if resume_at is not None:
            for file in self._files.values():
                file.resume(resume_at)
            self._call_sinks("resume", resume_at)

    @torch.no_grad()
    def add(self, metrics: Mapping[str, Metric]) -> None:
        """Add one value of each metric to the means of the next line.

        Args:
            metrics: A number or a 0-dim tensor by name.
        """
        tensors = {}
        for name, value in metrics.items():
            _check(name, value)
            if isinstance(value, Tensor):
                tensors[name] = value
            else:
                self._numbers[name] = self._numbers.get(name, 0.0) + float(value)
            self._counts[name] = self._counts.get(name, 0) + 1
        if tensors:
            for name, value in tensors.items():
                total = self._tensors.get(name)
                if total is None:
                    self._tensors[name] = torch.zeros((), device=value.device)
                elif total.device != value.device:
                    self._tensors[name] = total.to(value.device)
            totals = [self._tensors[name] for name in tensors]
            torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]
                totals, list(tensors.values())
            )

    def write(self, step: int, extra: Mapping[str, Metric] | None = None) -> dict[str, float]:
        """Append one line of metrics: the means since the last write, and `extra`.

        Args:
            step: Environment step.
            extra: Figures that are not averaged, such as counters.

        Returns:
            The figures of the line, without the step.
        """
        totals = dict(self._numbers)
        for name, value in _to_host(self._tensors).items():
            totals[name] = totals.get(name, 0.0) + value
        figures = {name: total / self._counts[name] for name, total in totals.items()}
        for name, value in (extra or {}).items():
            _check(name, value)
            figures[name] = float(value)
        self._write("metrics", step, figures)
        self._numbers, self._tensors, self._counts = {}, {}, {}
        return figures

    def timing(self, step: int, figures: Mapping[str, float]) -> None:
        """Append wall-clock figures (updates per second, …) to `timing.jsonl`."""
        self._write("timing", step, figures)

    def episode(
        self, step: int, score: float, length: int, *, task: str = "", **more: float
    ) -> None:
        """Append a finished episode to `episodes.jsonl`.

        Args:
            step: Environment step.
            score: Sum of rewards.
            length: Number of actions.
            task: Named in the line; sinks get `episode/<task>/score`.
            more: Further figures of the episode.
        """
        self.episodes, self._scores = self.episodes + 1, [*self._scores[-9:], float(score)]
        figures, prefix = {"score": score, "length": length, **more}, "episode/"
        if task:
            self._by_task[task] = [*self._by_task.get(task, [])[-9:], float(score)]
            prefix += f"{task}/"
        self._write("episodes", step, figures, prefix=prefix, words={"task": task} if task else {})

    def played(
        self,
        step: int,
        finished: Iterable[tuple[Any, float, int]],
        failures: Iterable[Any] = (),
        *,
        task: str = "",
    ) -> None:
        """Append the `finished` episodes and the `failures` of one step of an `EnvVector`.

        A failure (environment, cause, traceback) is written to `failures.jsonl` only.
        """
        for _, score, length in finished:
            self.episode(step, score, length, task=task)
        for failure in failures:
            words = {"what": failure.what, "traceback": failure.traceback}
            self._files["failures"].write(step, {"env": failure.env, **words})

    @property
    def score(self) -> float | None:
        """Mean score of the last 10 episodes; None before the first."""
        return sum(self._scores) / len(self._scores) if self._scores else None

    def score_of(self, task: str) -> float | None:
        """Mean score of the last 10 episodes of a task; None before the first."""
        scores = self._by_task.get(task)
        return sum(scores) / len(scores) if scores else None

    def video(
        self,
        step: int,
        name: str,
        frames: UInt8[Tensor, "time height width channel"]
        | UInt8[np.ndarray, "time height width channel"],
        fps: float = 10,
    ) -> Path:
        """Write frames to `videos/<name>-<step>.gif` and pass the file to the sinks."""
        path = self.logdir / "videos" / f"{name.replace('/', '-')}-{step:09d}.gif"
        write_gif(path, frames, fps)
        self._step = max(self._step, step)
        self._call_sinks("video", step, name, path)
        return path

    def state_dict(self) -> dict[str, Any]:
        """Running sums, scores, the last step, and the length of each JSONL file."""
        return {
            "numbers": dict(self._numbers),
            "tensors": {name: total.cpu().clone() for name, total in self._tensors.items()},
            "counts": dict(self._counts),
            "offsets": {name: file.offset() for name, file in self._files.items()},
            "step": self._step,
            "episodes": self.episodes,
            "scores": list(self._scores),
            "by_task": {task: list(scores) for task, scores in self._by_task.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict`: lines and events written after it are dropped.

        Warns:
            UserWarning: A JSONL file is shorter than it was; the run continues without the missing
                lines.
        """
        self._numbers, self._counts = dict(state["numbers"]), dict(state["counts"])
        self._tensors = {name: total.clone() for name, total in state["tensors"].items()}
        self._step, self.episodes = state["step"], state["episodes"]
        self._scores = list(state["scores"])
        self._by_task = {task: list(own) for task, own in state.get("by_task", {}).items()}
        for name, offset in state["offsets"].items():
            file = self._files[name]
            if file.offset() < offset:
                warnings.warn(
                    f"{file.path} has {file.offset()} bytes, but had {offset} when the checkpoint "
                    f"was saved: lines are missing before the ones that will be added",
                    stacklevel=2,
                )
            file.truncate(offset)
        self._call_sinks("resume", self._step + 1)

    def close(self) -> None:
        """Flush and close every file."""
        for sink in (*self._files.values(), *self.sinks):
            sink.close()

    def _call_sinks(self, method: str, *arguments: Any) -> None:
        """Call an optional method of every sink that has it."""
        for sink in self.sinks:
            if hasattr(sink, method):
                getattr(sink, method)(*arguments)

    def _write(
        self,
        name: str,
        step: int,
        figures: Mapping[str, float],
        prefix: str = "",
        words: Mapping[str, str] | None = None,
    ) -> None:
        for key, value in figures.items():
            _check(key, value)
        self._step = max(self._step, step)
        self._files[name].write(step, {**figures, **(words or {})})
        for sink in self.sinks:
            sink.write(step, {prefix + key: value for key, value in figures.items()})


def _check(name: str, value: Metric) -> None:
    if name == "step":
        raise ValueError(
            "a metric cannot be called 'step', which is the environment step of each line; rename "
            "it"
        )
    if isinstance(value, Tensor) and value.ndim:
        raise ValueError(
            f"metric {name!r} has shape {list(value.shape)}; log a number or a tensor without "
            f"axes, such as its mean"
        )


def _to_host(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """The values of 0-dim tensors, with one transfer per device."""
    values: dict[str, float] = {}
    for device in {tensor.device for tensor in tensors.values()}:
        here = {name: tensor for name, tensor in tensors.items() if tensor.device == device}
        values |= zip(here, torch.stack(list(here.values())).tolist(), strict=True)
    return values
