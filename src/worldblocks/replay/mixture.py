"""Several tasks: one replay per task, sampled together, with the known rewards of every task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

from worldblocks.replay.batch import Batch
from worldblocks.replay.checks import check_counts
from worldblocks.replay.labels import FEATURE, LABEL, Labels, Relabel, relabel
from worldblocks.replay.selectors import Selector
from worldblocks.replay.sequence import SequenceReplay
from worldblocks.replay.tree import flatten, map_leaves


class Mixture(NamedTuple):
    """Windows of several tasks, with the rewards of all tasks.

    Attributes:
        batch: the windows, `batch time ...`, without labels and features in the observations. The
            reward is that of the task whose environment produced the window.
        task: index of the task that produced each window; -1 if unknown.
        reward: reward of every task on every row; 0 where unknown.
        known: where the reward of a task is known.
        feature: features `feat/<name>` that all these tasks store, by name; targets, never inputs.
    """

    batch: Batch
    task: Int64[Tensor, " batch"]
    reward: Float32[Tensor, "task batch time"]
    known: Bool[Tensor, "task batch time"]
    feature: dict[str, Shaped[Tensor, "batch time ..."]]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Mixture":
        """Move everything to a device, except `batch.row`, which stays in host memory."""

        def move(_: str, leaf: Tensor) -> Tensor:
            return leaf.to(device, non_blocking=non_blocking)

        batch = self.batch.to(device, non_blocking)
        return Mixture(batch, *(map_leaves(move, part, "mixture") for part in self[1:]))


class MixtureReplay:
    """One `SequenceReplay` per task, sampled together.

    The reward of a task on a row is known in three cases: the task produced the row; the row was
    stored with an observation `reward/<task>`; or `relabel` has a function for the task and the row
    has its features. The function takes precedence. Features are observations `feat/<name>`. The
    observations of a batch contain neither labels nor features.

    All tasks must have the same observations, actions and carries; `wb.tasks` pads them.

    Args:
        tasks: names of the tasks, in the order of the axis `task`.
        relabel: the reward of a task as a function of features, by task. The first row of an
            episode always has reward 0.
        selector: makes the selector of a task from its seed; by default that of `SequenceReplay`.
        seed: base seed, from which each task derives its own by name.
        options: further options of each `SequenceReplay`; `capacity` is that of one task.

    Raises:
        ValueError: a name is duplicate or cannot be a folder, or an option is out of range.

    Source: ours; one buffer per task as in multi-task SAC (Yu et al. 2019, arXiv:1910.10897).
    """

    def __init__(
        self,
        tasks: Sequence[str] = (),
        *,
        relabel: Mapping[str, Relabel | None] | None = None,
        selector: Callable[[int], Selector] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if isinstance(tasks, str):
            raise TypeError(f"MixtureReplay takes a list of tasks, got {tasks!r}; use [{tasks!r}]")
        if selector is not None and not callable(selector):
            raise ValueError(
                f"MixtureReplay got selector={selector!r}; every task needs a selector of its own, "
                f"so give a function of the seed, such as wb.replay.Uniform"
            )
        self.relabel, self.seed, self._options = dict(relabel or {}), seed, options
        self._selector = selector
        self._replays: dict[str, SequenceReplay] = {}
        for task in tasks:
            self.add_task(task)

    @property
    def tasks(self) -> list[str]:
        """The task names, in the order of the axis `task`."""
        return list(self._replays)

    def __getitem__(self, task: str) -> SequenceReplay:
        """The replay of one task.

        Raises:
            KeyError: there is no such task.
        """
        check_counts({task: 0}, self.tasks)
        return self._replays[task]

    def __len__(self) -> int:
        """Number of window starts of the task with the fewest; 0 without tasks."""
        return min(map(len, self._replays.values()), default=0)

    def add_task(self, task: str) -> None:
        """Add a task with an empty replay, last on the axis `task`.

        Raises:
            ValueError: the name is taken or cannot be a folder.
        """
        if not task or task in (".", "..") or set(task) & set("/\\:"):
            raise ValueError(
                f"{task!r} cannot be the name of a task, because its rows are saved in a folder of "
                f"that name; use letters, digits, - and _"
            )
        if task in self._replays:
            raise ValueError(f"this replay already has a task {task!r}; use another name")
        [seed] = np.random.SeedSequence([self.seed, *task.encode()]).generate_state(1)
        selector = None if self._selector is None else self._selector(int(seed))
        self._replays[task] = SequenceReplay(selector=selector, seed=int(seed), **self._options)

    def remove_task(self, task: str) -> None:
        """Remove a task and its rows. The other tasks are unchanged.

        Raises:
            KeyError: there is no such task.
        """
        self[task]
        del self._replays[task]

    def add(self, task: str, **row: Any) -> None:
        """Store one row of every stream of a task; see `SequenceReplay.add`."""
        self[task].add(**row)

    def sample(self, counts: Mapping[str, int], *, length: int | None = None) -> Mixture:
        """Sample windows of several tasks, in the order of the tasks.

        Args:
            counts: number of windows by task; 0 for tasks left out.
            length: as for `SequenceReplay.sample`.

        Raises:
            KeyError: there is no such task.
            ValueError: `counts` has no windows, or a task has none of that length yet.
        """
        check_counts(counts, self.tasks)
        wanted = {task: counts[task] for task in self.tasks if counts.get(task)}
        if not wanted:
            raise ValueError(f"counts={dict(counts)} has no windows; use at least one")
        batches = [self[task].sample(n, length=length) for task, n in wanted.items()]
        places = [self.tasks.index(task) for task in wanted]
        task = torch.tensor(places).repeat_interleave(torch.tensor(list(wanted.values())))
        parts = [_split(batch.obs) for batch in batches]
        labels = [self._labels(*x) for x in zip(wanted, batches, parts, strict=True)]
        plain = [b._replace(obs=p[0]) for b, p in zip(batches, parts, strict=True)]
        if any(b.weight is not None for b in plain):  # a selector may give weights now and then
            weights = [torch.ones_like(b.reward) if b.weight is None else b.weight for b in plain]
            plain = [b._replace(weight=w) for b, w in zip(plain, weights, strict=True)]
        features = [part[2] for part in parts]
        named = [name for name in features[0] if all(name in own for own in features)]
        common = {name: torch.cat([own[name] for own in features]) for name in named}
        reward, known = _joined(labels, 1)
        return Mixture(_joined(plain, 0), task, reward, known, common)

    def _labels(
        self, own: str, batch: Batch, parts: tuple[dict, dict, dict]
    ) -> tuple[Tensor, Tensor]:
        """Rewards of all tasks on windows of task `own`, and where they are known."""
        _, labels, feature = parts
        rewards, known = [], []
        for task in self.tasks:
            how, stored = self.relabel.get(task), batch.reward if task == own else labels.get(task)
            if how and feature.keys() >= {*how.features}:
                label = relabel(feature, batch.is_first, how)
            elif stored is None:
                label = Labels(torch.zeros_like(batch.reward), torch.zeros_like(batch.is_first))
            else:
                label = Labels(stored, torch.ones_like(batch.is_first))
            rewards.append(label.reward)
            known.append(label.known)
        return torch.stack(rewards), torch.stack(known)

    def write_back(self, mixture: Mixture, carry: Any) -> None:
        """Replace the stored carries of the rows of a sampled mixture.

        Args:
            mixture: a result of `sample`, with its `batch.row`.
            carry: packed carry of each row, a pytree of `batch time ...`.
        """
        for task, row, mine in self._of_tasks(mixture):
            chosen = map_leaves(lambda _, x, own=mine: x[own.to(x.device)], carry, "carry")
            self[task].write_back(row, chosen)

    def update(self, mixture: Mixture, value: Float[Tensor, "batch time"]) -> None:
        """Give the selector of each task a number for each row; see `SequenceReplay.update`."""
        for task, row, mine in self._of_tasks(mixture):
            self[task].update(row, value[mine.to(value.device)])

    def _of_tasks(self, mixture: Mixture) -> Iterator[tuple[str, Any, Bool[Tensor, " batch"]]]:
        """The rows of each task in a mixture, and which windows are its."""
        row = mixture.batch.row
        for place in mixture.task.unique().tolist():
            mine = (mixture.task == place).cpu()
            yield self.tasks[place], None if row is None else row[mine], mine

    def save(self, folder: Path | str) -> dict[str, Any]:
        """Save new data, with one subfolder per task. Returns a manifest for `load`."""
        saved = {task: replay.save(Path(folder) / task) for task, replay in self._replays.items()}
        files = {
            f"{task}/{name}": entry
            for task, manifest in saved.items()
            for name, entry in manifest["files"].items()
        }
        return {"tasks": saved, "files": files}

    def load(self, folder: Path | str, manifest: Mapping[str, Any]) -> None:
        """Load the saved rows of all tasks present here; tasks that were not saved stay empty.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is truncated or corrupted, or the sizes of the replay differ.
        """
        for task, replay in self._replays.items():
            if task in manifest["tasks"]:
                replay.load(Path(folder) / task, manifest["tasks"][task])


def labelled(batch: Batch, how: Sequence[Relabel | None]) -> Mixture:
    """Label windows of one replay with the reward of every task, from their stored features.

    The task that produced a row is unknown: `task` is -1.

    Args:
        batch: a batch whose observations contain features `feat/<name>`.
        how: the reward of each task; None stands for the stored reward.

    Raises:
        KeyError: a feature is missing.
    """
    plain, _, feature = _split(batch.obs)
    own = Labels(batch.reward, torch.ones_like(batch.is_first))
    labels = [relabel(feature, batch.is_first, one) if one else own for one in how]
    reward, known = (torch.stack(part) for part in zip(*labels, strict=True))
    task = torch.full((len(batch.reward),), -1)
    return Mixture(batch._replace(obs=plain), task, reward, known, feature)


def _split(obs: Mapping[str, Tensor]) -> tuple[dict, dict, dict]:
    """Split into observations, labels by task, and features by name."""

    def named(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): x for key, x in obs.items() if key.startswith(prefix)}

    plain = {key: x for key, x in obs.items() if not key.startswith((LABEL, FEATURE))}
    return plain, named(LABEL), named(FEATURE)


def _joined(trees: Sequence[Any], axis: int) -> Any:
    """Concatenate the leaves of trees of one structure."""
    leaves = [flatten(tree, "batch")[0] for tree in trees]
    return map_leaves(
        lambda name, _: torch.cat([own[name] for own in leaves], axis), trees[0], "batch"
    )
