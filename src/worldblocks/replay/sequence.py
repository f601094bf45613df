"""Sequence replay with an online queue, stored carries and write-back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

from worldblocks.replay.batch import Batch, places
from worldblocks.replay.episodes import checked_episode, stored_episodes
from worldblocks.replay.files import (
    FORMAT,
    Chunks,
    check_manifest,
    current,
    newest_manifest,
    next_version,
    write_manifest,
)
from worldblocks.replay.layout import (
    FIXED,
    Layout,
    carried,
    check,
    check_streams,
    first_layout,
    layout_from_json,
    layout_to_json,
    row_values,
)
from worldblocks.replay.rings import Rings, make_rings
from worldblocks.replay.sampler import Sampler
from worldblocks.replay.selectors import OnlineFirst, Selector, Uniform, check_windows
from worldblocks.replay.storage import Memory, OnDevice, Storage, check_device, check_storage
from worldblocks.replay.tree import flatten, template_from_json, template_to_json


class SequenceReplay:
    """Streams of rows, sampled as windows of consecutive rows.

    Each of the `streams` environments fills a ring of rows across episodes. A window has `length`
    rows. With `context = 1` it is preceded by one row of which only the stored carry is used.
    `Batch` describes the contents of a batch and which action belongs to which row.

    By default a batch first takes windows of new experience, each once, then draws valid starts
    with equal probability. This is the replay of DreamerV3 (Hafner et al., 2023), whose stored
    latents are refreshed as training recomputes them. Another `selector` draws otherwise.

    With `prefetch`, a thread gathers the next batch during training on the current one. Its windows
    are drawn when the current batch is returned, so that new experience enters training one batch
    later. Windows evicted in the meantime are drawn again. Windows drawn ahead are part of what
    `save` saves. The thread may allocate memory while a CUDA graph is captured: capture with
    `capture_error_mode="thread_local"`.

    Args:
        capacity: number of window starts to keep, over all streams (rounded down to a multiple of
            `streams`): a stream keeps capacity // streams + length + context - 1 rows.
        streams: number of environments.
        length: number of rows of a window.
        context: 1 continues a window from the carry stored with the row before it; 0 starts it from
            the initial carry and marks its row 0 as `is_first`.
        selector: draws the windows of a batch; by default `OnlineFirst(Uniform(seed))`.
        seed: seed of the default selector, and of windows of another length than `length`.
        storage: where rows are kept: `Memory`, `MemoryMapped` or `OnDevice`. Batches do not depend
            on it.
        device: device of the batches, except their `row`; by default that of the storage.
        prefetch: whether a thread gathers ahead; by default only for a CUDA device.

    Raises:
        ValueError: a number is out of range, `storage` is not a storage, or this machine has no
            such device.
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
        if streams < 1 or length < 1 or context not in (0, 1):
            raise ValueError(
                f"got streams={streams}, length={length}, context={context}; streams and length "
                f"must be at least 1, context 0 or 1"
            )
        if capacity < streams:
            raise ValueError(
                f"capacity={capacity} leaves some of {streams} streams without a window; it counts "
                f"window starts over all streams, so use at least {streams}"
            )
        check_storage(storage)
        if device is None:
            device = storage.device if isinstance(storage, OnDevice) else "cpu"
        check_device("batches cannot be moved to", device)
        self.capacity = capacity
        self.streams = streams
        self.length = length
        self.context = context
        self.storage = storage
        self.device = torch.device(device)
        self._sampler = Sampler(
            OnlineFirst(Uniform([seed, 0])) if selector is None else selector,
            seed,
            length,
            context,
            self.device,
            self.device.type == "cuda" if prefetch is None else prefetch,
        )
        self._kept = capacity // streams + length + context - 1  # rows of each stream
        self._rings: Rings | None = None  # created with the layout of the first row
        self._chunks = Chunks()
        self._carry: Any = None  # the structure of a carry, with a name at each leaf

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

        To add rows of several environments later, create a replay with that many streams and call
        `add_episode`.

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

        Sizes and selector may differ from the saved ones; `load` continues exactly instead. While
        it reads, the rows are in memory twice.

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
        rings, _ = cls(**sizes)._read(folder, saved)
        carry = template_from_json(saved["carry"])
        episodes = [] if rings is None else stored_episodes(rings, carry)
        options.setdefault("capacity", sum(saved["rows"]))
        options["context"] = saved["context"] if context is None else context
        return cls.from_episodes(episodes, length=length, **options)

    def __len__(self) -> int:
        """Number of window starts that can be drawn, over all streams."""
        if self._rings is None:
            return 0
        return int(self._rings.stored.starts(self.length + self.context).sum())

    @property
    def steps(self) -> int:
        """Number of rows ever added, over all streams."""
        return 0 if self._rings is None else int(self._rings.count.sum())

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

    def add(
        self,
        *,
        obs: Mapping[str, Shaped[Tensor, "env ..."]],
        prev_action: Float32[Tensor, "env action"],
        reward: Float32[Tensor, " env"],
        is_first: Bool[Tensor, " env"],
        is_last: Bool[Tensor, " env"],
        is_terminal: Bool[Tensor, " env"],
        carry: Any,
        streams: Sequence[int] | Int64[Tensor, " env"] | None = None,
    ) -> None:
        """Store one row of every stream, evicting the oldest row of a full ring.

        The first row determines the layout of all rows. `carry` is the packed carry from which the
        dynamics block continues after this row, any pytree of `env ...` tensors, or None.
        `streams` names the stream of each row if some streams have none; streams then advance at
        their own pace.

        Raises:
            ValueError: a key, dtype or shape differs from the first row, an observation or reward
                is not finite, or `streams` are not different streams. Nothing was added.
            MemoryError: the storage has no room for `capacity` rows of this layout.
            OSError: the folder of the storage cannot be written.
        """
        packed, template = flatten(carry, "carry")
        values = row_values(
            packed,
            obs=obs,
            prev_action=prev_action,
            reward=reward,
            is_first=is_first,
            is_last=is_last,
            is_terminal=is_terminal,
        )
        chosen = None if streams is None else check_streams(streams, self.streams)
        rings = self._rings
        if rings is None:
            lead = self.streams if chosen is None else len(chosen)
            rings = self._empty(first_layout(values, lead, self.context))
        before = rings.stored if self._sampler.listens else None
        rings.add(values, chosen)
        self._rings, self._carry = rings, template if self.context else None
        if before is not None:
            self._sampler.changed(before, rings.stored)

    def add_episode(self, episode: Batch, *, stream: int | None = None) -> None:
        """Store the rows of an episode in one stream, after the rows that it has.

        Args:
            episode: rows `time ...`, of which the last may be `is_last`. Row 0 becomes `is_first`
                if it is not: what led to it is unknown. `carry`, with one entry for each row, is
                needed with `context = 1`.
            stream: by default the one with the fewest rows.

        Raises:
            ValueError: as for `add`, or a row in the middle begins or ends an episode. Nothing was
                added.
        """
        episode = checked_episode(episode)
        packed, template = flatten(episode.carry, "carry")
        values = row_values(packed, **{name: getattr(episode, name) for name in ("obs", *FIXED)})
        rings = self._rings
        if rings is None:
            rings = self._empty(first_layout(values, len(episode.reward), self.context))
        [chosen] = (
            [rings.count.argmin()] if stream is None else check_streams([stream], self.streams)
        )
        before = rings.stored
        rings.extend(int(chosen), values)
        self._rings, self._carry = rings, template if self.context else None
        self._sampler.changed(before, rings.stored)

    def episodes(self) -> Iterator[Batch]:
        """The stored episodes, `time ...`, in host memory, one stream after the other.

        The first of a stream may have lost its beginning, and the last may be unfinished. `carry`
        has one entry for each row. `is_last` is also set where an episode was abandoned.
        """
        if self._rings is not None:
            yield from stored_episodes(self._rings, self._carry)

    def holds(self, length: int) -> bool:
        """True if windows of `length` rows (after their context) can be drawn now."""
        return self._rings is not None and bool(
            self._rings.stored.starts(length + self.context).any()
        )

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

    @torch.no_grad()
    def write_back(self, row: Int64[Tensor, "*batch"] | None, carry: Any) -> None:
        """Replace the stored carries of sampled rows.

        Rows evicted in the meantime are skipped. If a row occurs more than once, its last carry is
        stored.

        Args:
            row: `Batch.row`, or a part of it.
            carry: packed carry *of* each of these rows, a pytree of `*batch ...`.

        Raises:
            ValueError: a row was never stored, or the carry does not match the stored layout.
        """
        rings, stream, time = places("write_back", row, self._rings)
        values, _ = flatten(carry, "carry")
        lead = () if row is None else tuple(row.shape)
        check(values, carried(rings.layout), lead)
        flat = {name: value.flatten(0, len(lead) - 1) for name, value in values.items()}
        rings.put(stream, time, flat)
        self._chunks.changed(time[time >= int(rings.stored.oldest.min())].numpy())

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
        update = getattr(self.selector, "update", None)
        if update is None:
            raise ValueError(
                f"replay.update was called, and {type(self.selector).__name__} has no method "
                f"update(stream, row, value); create the replay with a selector that has one"
            )
        rings, stream, time = places("update", row, self._rings)
        if row is None or value.shape != row.shape:
            raise ValueError(
                f"update takes a value for each row, got values {list(value.shape)} for rows "
                f"{list(row.shape) if row is not None else None}"
            )
        stays = time.numpy() >= rings.stored.oldest[stream.numpy()]
        given = value.detach().float().cpu().flatten().numpy()
        update(stream.numpy()[stays], time.numpy()[stays], given[stays])

    def save(self, folder: Path | str) -> dict[str, Any]:
        """Save new data to a folder. Returns a manifest of JSON values for `load`.

        Only new or changed data is written. Existing files are never touched, so older manifests
        stay valid. `manifest["files"]` lists every file that this state needs.
        """
        rings, folder = self._rings, Path(folder).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        version = next_version(folder)
        manifest = {
            **self._sizes(),
            "rows": [0] * self.streams if rings is None else rings.count.tolist(),
            **self._sampler.state(),
            "layout": {} if rings is None else layout_to_json(rings.layout),
            "carry": template_to_json(self._carry),
            "files": {} if rings is None else self._chunks.save(folder, rings, version),
        }
        return write_manifest(folder, manifest, version)

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
        rings, chunks = self._read(folder, manifest)
        self._sampler.load(manifest)
        self._rings, self._chunks = rings, chunks
        self._carry = template_from_json(manifest["carry"]) if self.context else None

    def _read(self, folder: Path | str, manifest: Mapping[str, Any]) -> tuple[Rings | None, Chunks]:
        """The rows of a manifest, in new rings."""
        chunks = Chunks()
        if not manifest["layout"]:
            return None, chunks
        rings = self._empty(layout_from_json(manifest["layout"]))
        rings.restart(np.array(manifest["rows"], np.int64))
        chunks.load(Path(folder).resolve(), manifest["files"], rings)
        return rings, chunks

    def close(self) -> None:
        """Stop the thread of `prefetch`, which also ends with the replay."""
        self._sampler.close()

    def _empty(self, layout: Layout) -> Rings:
        return make_rings(layout, self.streams, self._kept, self.storage)

    def _sizes(self) -> dict[str, int]:
        names = ("capacity", "streams", "length", "context")
        return {"format": FORMAT} | {name: getattr(self, name) for name in names}
