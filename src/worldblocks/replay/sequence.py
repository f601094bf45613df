"""Sequence replay with an online queue, stored carries and write-back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from worldblocks.replay.batch import Batch, gather_carry, gather_rows
from worldblocks.replay.files import FORMAT, Chunks, check_manifest
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

    `streams` environments advance together; each fills a ring of rows, across episodes. A window
    is `length` rows, with `context = 1` preceded by one row that gives only its stored carry. What
    a batch holds and which action belongs to which row is said at `Batch`.

    A batch takes windows from the online queue first (new experience, each once), then draws every
    valid start with equal probability. It is the replay of DreamerV3 (Hafner et al., 2023), whose
    stored latents refresh as training recomputes them.

    Args:
        capacity: window starts that are kept, over all streams (rounded down to a multiple of
            `streams`): a stream keeps capacity // streams + length + context - 1 rows.
        streams: how many environments fill it.
        length: rows of a window that are trained on.
        context: 1, and a window continues from the carry stored with the row before it; or 0, and
            its row 0 is marked `is_first`: it starts from nothing.
        online: whether batches take from the online queue first.
        seed: of the uniform draws.
        storage: where rows are kept: `Memory`, `MemoryMapped` or `OnDevice`. What is drawn and
            what it holds does not depend on it.

    Raises:
        ValueError: a number is out of range, or `storage` is none.
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
                f"streams={streams}, length={length}, context={context}: streams and length are "
                f"at least 1, context is 0 or 1"
            )
        if capacity < streams:
            raise ValueError(
                f"capacity={capacity} leaves no window to some of {streams} streams; it counts "
                f"window starts over all streams"
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
        self._rings: Rings | None = None  # until the first row says what a row is made of
        self._chunks = Chunks()
        self._carry: Any = None  # its structure in a batch, a name at each leaf

    def __len__(self) -> int:
        """Window starts that can be drawn, over all streams."""
        rows = min(self._count, self._kept)  # the first window starts at the oldest of them
        return self.streams * max(0, rows - self.length - self.context + 1)

    @property
    def steps(self) -> int:
        """Rows ever added, over all streams."""
        return self.streams * self._count

    @property
    def queued(self) -> int:
        """Windows in the online queue; those whose rows are gone count until a draw skips them."""
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
        """Store one row of every stream, evicting the oldest where the rings are full.

        The first row decides what a row is made of. `carry` is any pytree of `env ...` tensors:
        what the dynamics block needs to go on from this row, packed; None if there is none.

        Raises:
            ValueError: a key, dtype or shape is not that of the first row, or an observation or
                reward is not finite. Nothing was added.
            MemoryError: the first row is too large to keep `capacity` of.
            OSError: its folder cannot be written.
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
        """Whether windows of so many rows (and the context before) can be drawn now."""
        return self._rings is not None and length + self.context <= min(self._count, self._kept)

    def sample(
        self, batch_size: int, *, length: int | None = None, online: bool | None = None
    ) -> Batch:
        """Draw a batch of windows: `batch time ...` of fresh tensors, where the storage gives them.

        `is_last` is added where the next row of the window is `is_first`: an episode that was
        abandoned there.

        Args:
            batch_size: windows.
            length: rows of each, for a look at the data (a video, a report). Such windows come
                neither from the online queue nor from the random numbers of training, which go on
                as if nobody had looked.
            online: whether to take from the online queue first; by default as constructed.

        Raises:
            ValueError: there is no window of that length yet, or there can never be one.
        """
        rows = self.length if length is None else length
        rings, selector = self._drawable(batch_size, rows), self._selector
        if length is None:
            online = self.online if online is None else online
            drawn = selector.draw(batch_size, *rings.stored, online)
        else:
            drawn = selector.looks.draw(batch_size, rows + self.context, *rings.stored)
        batch = gather_rows(rings, drawn, rows, self.context)
        return batch._replace(carry=gather_carry(rings, drawn, self._carry))

    @torch.no_grad()
    def write_back(self, row: Int64[Tensor, "*batch"] | None, carry: Any) -> None:
        """Replace the stored carries of rows that were sampled.

        Rows that were evicted since are skipped. Where a row stands in the batch more than once,
        its last carry stays.

        Args:
            row: `Batch.row`, or a part of it.
            carry: the packed carry *of* each of these rows, a pytree of `*batch ...`.

        Raises:
            ValueError: a row was never stored, or the carry is unlike the stored ones.
        """
        if row is None:
            raise ValueError("these rows are in no replay: their batch has row=None")
        rows, rings = row.flatten().cpu(), self._rings
        unknown = int(((rows < 0) | (rows >= self.steps)).sum())
        if rings is None or unknown:
            raise ValueError(
                f"{unknown} of {len(rows)} rows to be written back were never added; pass the "
                f"`row` of a batch that this replay sampled"
            )
        values, _ = flatten(carry, "carry")
        check(values, carried(rings.layout), tuple(row.shape))
        stream, time = rows % self.streams, rows // self.streams
        flat = {name: value.flatten(0, row.ndim - 1) for name, value in values.items()}
        rings.put(stream, time, flat)
        self._chunks.changed(time[time >= rings.oldest].numpy())

    def save(self, folder: Path) -> dict[str, Any]:
        """Bring a folder up to date; returns a manifest (plain JSON values) that `load` takes.

        Existing files are never touched, so that an older manifest stays valid, and only what is
        new or changed is written; `manifest["files"]` names every file that this state needs.
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
        """Take on the state that `save` left, and continue exactly as the saved replay would.

        Until the next `add` brings the type again, a NamedTuple in the carry of a batch is a plain
        one of the same name and fields: files name no code.

        Raises:
            FileNotFoundError: a file is missing. The replay is unchanged, here and below.
            ValueError: a file is truncated or corrupted, or the manifest is of another format or
                of a replay of other sizes.
        """
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
        """The rings, if so many windows can be drawn from them."""
        check_draw(batch_size, length, self.context, self._kept, self._count)
        assert self._rings is not None  # it has rows
        return self._rings

    @property
    def _count(self) -> int:
        """Rows that every stream has been given."""
        return 0 if self._rings is None else self._rings.count

    def _sizes(self) -> dict[str, int]:
        names = ("capacity", "streams", "length", "context")
        return {"format": FORMAT} | {name: getattr(self, name) for name in names}
