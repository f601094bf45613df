"""Sequence replay with an online queue, stored carries and write-back."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from worldblocks.replay.batch import Batch
from worldblocks.replay.checks import check_sizes, check_windows
from worldblocks.replay.sampler import Sampler
from worldblocks.replay.selectors import OnlineFirst, Selector, Uniform
from worldblocks.replay.storage.earlier import FORMAT, check_manifest, current
from worldblocks.replay.storage.files import newest_manifest, next_version, write_manifest
from worldblocks.replay.storage.memory import (
    Memory,
    MemoryMapped,
    OnDevice,
    Storage,
    check_device,
    check_storage,
)
from worldblocks.replay.streams import Streams


class SequenceReplay(Streams):
    """Streams of rows, sampled as windows of consecutive rows.

    Each of the `streams` environments fills a ring of rows across episodes. A window has `length`
    rows. With `context = 1` it is preceded by one row of which only the stored carry is used.
    `Batch` describes the contents of a batch and which action belongs to which row.

    By default a batch first takes windows of new experience, each once, then draws valid starts
    with equal probability. This is the replay of DreamerV3 (Hafner et al., 2023), whose stored
    latents are refreshed as training recomputes them. Another `selector` draws otherwise.

    With `prefetch`, a thread gathers the next batch during training on the current one. Its windows
    are drawn when the current batch is returned: new experience enters training one batch later.
    The thread may allocate memory while a CUDA graph is captured: capture with
    `capture_error_mode="thread_local"`.

    Args:
        capacity: number of window starts to keep, over all streams: a stream keeps
            capacity // streams + length + context - 1 rows.
        streams: number of environments.
        length: number of rows of a window.
        context: 1 continues a window from the carry stored with the row before it; 0 starts it from
            the initial carry and marks its row 0 as `is_first`.
        selector: draws the windows of a batch; by default `OnlineFirst(Uniform(seed))`.
        seed: seed of the default selector, and of windows of another length than `length`.
        storage: where rows are kept: `Memory`, `MemoryMapped` or `OnDevice`.
        device: device of the batches, except their `row`; by default that of the storage.
        prefetch: whether a thread gathers ahead; by default only for a CUDA device.

    Raises:
        ValueError: a number is out of range, `selector` is not a selector, `storage` is not a
            storage, or this machine has no such device.
    """

    def __init__(
        self,
        *,
        capacity: int,
        streams: int,
        length: int,
        context: int = 1,
        selector: Selector | None = None,
        seed: int = 0,
        storage: Storage = Memory(),  # noqa: B008 (it is frozen)
        device: torch.device | str | None = None,
        prefetch: bool | None = None,
    ) -> None:
        check_sizes(capacity, streams, length, context)
        check_storage(storage)
        if device is None:
            device = storage.device if isinstance(storage, OnDevice) else "cpu"
        check_device("batches cannot be moved to", device)
        self.capacity, self.length, self.device = capacity, length, torch.device(device)
        self._sampler = Sampler(
            OnlineFirst(Uniform([seed, 0])) if selector is None else selector,
            seed,
            length,
            context,
            self.device,
            self.device.type == "cuda" if prefetch is None else prefetch,
        )
        rows = capacity // streams + length + context - 1
        listener = self._sampler.changed if self._sampler.listens else None
        super().__init__(streams, rows, context, storage, listener)

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Batch],
        *,
        length: int,
        context: int = 0,
        capacity: int | None = None,
        selector: Selector | None = None,
        seed: int = 0,
        **options: Any,
    ) -> "SequenceReplay":
        """A replay of recorded episodes, one after the other in one stream.

        Args:
            episodes: as for `add_episode`.
            length, seed: as for `SequenceReplay`.
            context: as for `SequenceReplay`; 0 drops the carries of the episodes.
            capacity: number of window starts to keep; by default all rows are kept.
            selector: by default `Uniform(seed)`: the order of arrival means nothing.
            **options: further options of `SequenceReplay`.

        Raises:
            ValueError: there is no episode, or an episode cannot be added.
        """
        if isinstance(episodes, Batch) or "streams" in options:
            raise ValueError(
                "from_episodes takes a list of episodes into one stream; for one episode or more "
                "streams, create a SequenceReplay and call add_episode"
            )
        if capacity is None:
            episodes = list(episodes)
            capacity = sum(len(episode.reward) for episode in episodes)
        replay = cls(
            capacity=max(capacity, 1),
            streams=1,
            length=length,
            context=context,
            selector=Uniform([seed, 0]) if selector is None else selector,
            seed=seed,
            **options,
        )
        for episode in episodes:
            replay.add_episode(episode if context else episode._replace(carry=None))
        if not replay.steps:
            raise ValueError("from_episodes got no episode; it needs at least one with a row")
        return replay

    @classmethod
    def open(
        cls, folder: Path | str, *, length: int, context: int | None = None, **options: Any
    ) -> "SequenceReplay":
        """A new replay of the episodes that were saved in a folder.

        Sizes and selector may differ from the saved ones; `load` continues exactly instead. The
        rows are in memory, or on the disk of `MemoryMapped`, twice while they are read.

        Args:
            folder: the folder of `save`, such as `<run>/checkpoint/replay`.
            length: number of rows of a window.
            context: by default as saved; 0 drops the stored carries.
            **options: further options of `from_episodes`.

        Raises:
            FileNotFoundError: nothing was saved there, or a file is missing.
            ValueError: a file is truncated or corrupted.
        """
        saved = current(newest_manifest(Path(folder)))
        sizes = {name: saved[name] for name in ("capacity", "streams", "length", "context")}
        storage = options.get("storage")
        old = cls(**sizes, storage=storage if isinstance(storage, MemoryMapped) else Memory())
        old._read_rows(Path(folder).resolve(), saved)()
        options.setdefault("capacity", int(old._rings.stored.starts(1).sum()) if old._rings else 0)
        options["context"] = saved["context"] if context is None else context
        return cls.from_episodes(old.episodes(), length=length, **options)

    def __len__(self) -> int:
        """Number of window starts that can be drawn, over all streams."""
        if self._rings is None:
            return 0
        return int(self._rings.stored.starts(self.length + self.context).sum())

    @property
    def selector(self) -> Selector:
        """What draws the windows of training."""
        return self._sampler.selector

    @property
    def queued(self) -> int:
        """Number of windows that `OnlineFirst` has not drawn yet; 0 for another selector.

        Includes evicted ones until a draw skips them.
        """
        selector, window = self.selector, self.length + self.context
        if self._rings is None or not isinstance(selector, OnlineFirst):
            return 0
        return int(selector.waiting(window, self._rings.stored).sum())

    def holds(self, length: int) -> bool:
        """True if windows of `length` rows (after their context) can be drawn now."""
        starts = None if self._rings is None else self._rings.stored.starts(length + self.context)
        return starts is not None and bool(starts.any())

    def sample(self, batch_size: int, *, length: int | None = None) -> Batch:
        """Sample a batch of windows, `batch time ...`, on `device`.

        `is_last` is also set where the next row of the window is `is_first`: there the episode was
        abandoned.

        Args:
            batch_size: number of windows.
            length: number of rows, for evaluation (a video, a report). Such windows are drawn
                uniformly, without the selector and the random numbers of training.

        Raises:
            ValueError: there is no window of that length yet, there can never be one, or the
                selector drew others than it was asked for.
            RuntimeError: the thread of `prefetch` failed. No batch is lost.
        """
        rows = self.length if length is None else length
        count = 0 if self._rings is None else int(self._rings.count.max())
        check_windows(batch_size, rows, self.context, self._kept, count)
        assert self._rings is not None  # since there are rows
        if length is not None:
            return self._sampler.evaluation(self._rings, batch_size, length, self._carry)
        return self._sampler.batch(self._rings, batch_size, self._carry)

    def update(self, row: Int64[Tensor, "*batch"] | None, value: Float[Tensor, "*batch"]) -> None:
        """Give the selector a number for each sampled row, such as a temporal-difference error.

        Rows evicted in the meantime are skipped.

        Args:
            row: `Batch.row`, or a part of it, for example `row[:, 0]` for a number a window.
            value: number of each of these rows.

        Raises:
            ValueError: a row was never stored, `value` has another shape, or the selector has no
                method `update`.
        """
        self._sampler.update(self._rings, row, value)

    def save(self, folder: Path | str) -> dict[str, Any]:
        """Save new data to a folder. Returns a manifest of JSON values for `load`.

        Only new or changed data is written. Existing files are never touched, so older manifests
        stay valid. `manifest["files"]` lists every file that this state needs.
        """
        folder = Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        version = next_version(folder)
        rows = self._save_rows(folder, version)
        return write_manifest(folder, {**self._sizes(), **self._sampler.state(), **rows}, version)

    def load(self, folder: Path | str, manifest: Mapping[str, Any]) -> None:
        """Load a saved state, and continue exactly as the saved replay would.

        Files contain no code: until the next `add`, a NamedTuple in the carry of a batch is a plain
        namedtuple with the same name and fields. If loading fails, the replay is unchanged.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is truncated or corrupted, or the format, the sizes or the selector
                of the replay differ.
        """
        manifest = current(manifest)
        check_manifest(manifest, self._sizes())
        put = self._read_rows(Path(folder).resolve(), manifest)
        self._sampler.load(manifest)
        put()

    def close(self) -> None:
        """Stop the thread of `prefetch`, which also ends with the replay."""
        self._sampler.close()

    def _sizes(self) -> dict[str, int]:
        names = ("capacity", "streams", "length", "context")
        return {"format": FORMAT} | {name: getattr(self, name) for name in names}
