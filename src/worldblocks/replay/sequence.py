"""Sequence replay with an online queue, stored carries and write-back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from worldblocks.replay.batch import Batch, gather_carry, gather_rows
from worldblocks.replay.files import FORMAT, Chunks, check_manifest, current
from worldblocks.replay.layout import (
    Layout,
    carried,
    check,
    first_layout,
    layout_from_json,
    layout_to_json,
)
from worldblocks.replay.rings import Rings, make_rings
from worldblocks.replay.selectors import Selector, check_draw
from worldblocks.replay.storage import Memory, Storage, check_storage
from worldblocks.replay.tree import flatten, template_from_json, template_to_json


class SequenceReplay:
    """Streams of rows, sampled as windows of consecutive rows.

    `streams` environments advance together, and each fills a ring of rows across episodes. A window
    has `length` rows. With `context = 1` it is preceded by one row of which only the stored carry
    is used. `Batch` describes the contents of a batch and which action belongs to which row.

    A batch first takes windows from the online queue (new experience, each window once), then draws
    valid starts with equal probability. This is the replay of DreamerV3 (Hafner et al., 2023),
    whose stored latents are refreshed as training recomputes them.

    Args:
        capacity: number of window starts to keep, over all streams (rounded down to a multiple of
            `streams`): a stream keeps capacity // streams + length + context - 1 rows.
        streams: number of environments.
        length: number of rows of a window.
        context: 1 continues a window from the carry stored with the row before it; 0 starts it from
            the initial carry and marks its row 0 as `is_first`.
        online: whether batches take windows from the online queue first.
        seed: seed of the uniform draws.
        storage: where rows are kept: `Memory`, `MemoryMapped` or `OnDevice`. Batches do not depend
            on it.

    Raises:
        ValueError: a number is out of range, or `storage` is not a storage.
    """

    def __init__(
        self,
        *,
        capacity: int,
        streams: int,
        length: int,
        context: int = 1,
        online: bool = True,
        seed: int = 0,
        storage: Storage = Memory(),  # noqa: B008 (it is frozen)
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
        self.capacity = capacity
        self.streams = streams
        self.length = length
        self.context = context
        self.online = online
        self.storage = storage
        self._kept = capacity // streams + length + context - 1  # rows of each stream
        self._selector = Selector(streams, length + context, seed)
        self._rings: Rings | None = None  # created with the layout of the first row
        self._chunks = Chunks()
        self._carry: Any = None  # the structure of a carry, with a name at each leaf

    def __len__(self) -> int:
        """Number of window starts that can be drawn, over all streams."""
        rows = min(self._count, self._kept)
        return self.streams * max(0, rows - self.length - self.context + 1)

    @property
    def steps(self) -> int:
        """Number of rows ever added, over all streams."""
        return self.streams * self._count

    @property
    def queued(self) -> int:
        """Number of windows in the online queue, including evicted ones until a draw skips them."""
        return max(0, self._selector.queue.ready(self._count) - self._selector.queue.next)

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
    ) -> None:
        """Store one row of every stream, evicting the oldest row if the rings are full.

        The first row determines the layout of all rows. `carry` is the packed carry from which the
        dynamics block continues after this row, any pytree of `env ...` tensors, or None.

        Raises:
            ValueError: a key, dtype or shape differs from the first row, or an observation or
                reward is not finite. Nothing was added.
            MemoryError: the storage has no room for `capacity` rows of this layout.
            OSError: the folder of the storage cannot be written.
        """
        packed, template = flatten(carry, "carry")
        values = {f"obs/{key}": value for key, value in obs.items()} | packed
        values |= {"prev_action": prev_action, "reward": reward}
        values |= {"is_first": is_first, "is_last": is_last, "is_terminal": is_terminal}
        rings = self._rings
        if rings is None:
            rings = self._empty(first_layout(values, self.streams, self.context))
        rings.add(values)
        self._rings, self._carry = rings, template if self.context else None

    def holds(self, length: int) -> bool:
        """True if windows of `length` rows (after their context) can be drawn now."""
        return self._rings is not None and length + self.context <= min(self._count, self._kept)

    def sample(
        self, batch_size: int, *, length: int | None = None, online: bool | None = None
    ) -> Batch:
        """Sample a batch of windows, `batch time ...`, on the device of the storage.

        `is_last` is also set where the next row of the window is `is_first`: there the episode was
        abandoned.

        Args:
            batch_size: number of windows.
            length: number of rows, for evaluation (a video, a report). Such windows use neither the
                online queue nor the random numbers of training, which they leave unchanged.
            online: whether to take windows from the online queue first; by default as constructed.

        Raises:
            ValueError: there is no window of that length yet, or there can never be one.
        """
        rows = self.length if length is None else length
        rings, selector = self._drawable(batch_size, rows), self._selector
        if length is None:
            online = self.online if online is None else online
            drawn = selector.draw(batch_size, *rings.stored, online)
        else:
            drawn = selector.evaluation.draw(batch_size, rows + self.context, *rings.stored)
        batch = gather_rows(rings, drawn, rows, self.context)
        return batch._replace(carry=gather_carry(rings, drawn, self._carry))

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
        if row is None:
            raise ValueError("write_back needs rows from a replay, got a batch with row=None")
        rows, rings = row.flatten().cpu(), self._rings
        unknown = int(((rows < 0) | (rows >= self.steps)).sum())
        if rings is None or unknown:
            raise ValueError(
                f"{unknown} of {len(rows)} rows to write back were never added; pass the `row` of "
                f"a batch sampled from this replay"
            )
        values, _ = flatten(carry, "carry")
        check(values, carried(rings.layout), tuple(row.shape))
        stream, time = rows % self.streams, rows // self.streams
        flat = {name: value.flatten(0, row.ndim - 1) for name, value in values.items()}
        rings.put(stream, time, flat)
        self._chunks.changed(time[time >= rings.oldest].numpy())

    def save(self, folder: Path) -> dict[str, Any]:
        """Save new data to a folder. Returns a manifest of JSON values for `load`.

        Only new or changed data is written. Existing files are never touched, so older manifests
        stay valid. `manifest["files"]` lists every file that this state needs.
        """
        rings = self._rings
        return {
            **self._sizes(),
            "rows": self._count,
            **self._selector.state(),
            "layout": {} if rings is None else layout_to_json(rings.layout),
            "carry": template_to_json(self._carry),
            "files": {} if rings is None else self._chunks.save(folder, rings),
        }

    def load(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Load a saved state, and continue exactly as the saved replay would.

        Files contain no code: until the next `add`, a NamedTuple in the carry of a batch is a plain
        namedtuple with the same name and fields. If loading fails, the replay is unchanged.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is truncated or corrupted, or the format or the sizes of the replay
                differ.
        """
        manifest = current(manifest)
        check_manifest(manifest, self._sizes())
        rings, chunks = None, Chunks()
        if manifest["layout"]:
            rings = self._empty(layout_from_json(manifest["layout"]))
            rings.count = manifest["rows"]
            chunks.load(folder, manifest["files"], rings)
        self._rings, self._chunks = rings, chunks
        self._carry = template_from_json(manifest["carry"]) if self.context else None
        self._selector.load(manifest)

    def _empty(self, layout: Layout) -> Rings:
        return make_rings(layout, self.streams, self._kept, self.storage)

    def _drawable(self, batch_size: int, length: int) -> Rings:
        """The rings, after checking that the windows can be drawn."""
        check_draw(batch_size, length, self.context, self._kept, self._count)
        assert self._rings is not None  # since there are rows
        return self._rings

    @property
    def _count(self) -> int:
        """Number of rows added to each stream."""
        return 0 if self._rings is None else self._rings.count

    def _sizes(self) -> dict[str, int]:
        names = ("capacity", "streams", "length", "context")
        return {"format": FORMAT} | {name: getattr(self, name) for name in names}
