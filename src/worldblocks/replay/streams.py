"""Streams of rows: what a replay stores, without what it draws."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Shaped
from torch import Tensor

from worldblocks._wrong_call import described
from worldblocks.replay.batch import Batch, places
from worldblocks.replay.episodes import checked_episode, stored_episodes
from worldblocks.replay.storage.files import Chunks
from worldblocks.replay.storage.host_rings import HostRings
from worldblocks.replay.storage.layout import (
    FIXED,
    Layout,
    carried,
    check,
    check_streams,
    first_layout,
    layout_from_json,
    layout_to_json,
)
from worldblocks.replay.storage.memory import OnDevice, Storage
from worldblocks.replay.storage.rings import Rings
from worldblocks.replay.storage.stored import Stored
from worldblocks.replay.tree import flatten, template_from_json, template_to_json


class Streams:
    """Rows of several environments, each in a ring of `rows` rows, across episodes.

    `listener`, if there is one, is called after rows were added, with the rows that were stored
    before and those that are stored now.
    """

    def __init__(
        self,
        streams: int,
        rows: int,
        context: int,
        storage: Storage,
        listener: Callable[[Stored, Stored], None] | None,
    ) -> None:
        self.streams, self.context, self.storage = streams, context, storage
        self._kept, self._listener = rows, listener
        self._rings: Rings | None = None  # created with the layout of the first row
        self._chunks = Chunks()
        self._carry: Any = None  # the structure of a carry, with a name at each leaf
        self._recorded: dict[int, int] = {}  # rows of a stream when an episode was added last

    @property
    def steps(self) -> int:
        """Number of rows ever added, over all streams."""
        return 0 if self._rings is None else int(self._rings.count.sum())

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
                is not finite, a row after `is_last` is not `is_first`, or `streams` are not
                different streams. Nothing was added.
            MemoryError: the storage has no room for `capacity` rows of this layout.
            OSError: the folder of the storage cannot be written.
        """
        if not isinstance(obs, Mapping):
            raise TypeError(
                f"add takes obs as a dict of tensors by key, got {described(obs)}; give "
                f"{{'image': x}} or another key"
            )
        packed, template = flatten(carry, "carry")
        values = {f"obs/{key}": value for key, value in obs.items()} | packed
        values |= {"prev_action": prev_action, "reward": reward}
        values |= {"is_first": is_first, "is_last": is_last, "is_terminal": is_terminal}
        chosen = None if streams is None else check_streams(streams, self.streams)
        rings = self._rings
        if rings is None:
            lead = self.streams if chosen is None else len(chosen)
            rings = self._empty(first_layout(values, lead, self.context))
        before = None if self._listener is None else rings.stored
        rings.add(values, chosen)
        self._rings, self._carry = rings, template if self.context else None
        if self._listener is not None and before is not None:
            self._listener(before, rings.stored)

    def add_episode(self, episode: Batch, *, stream: int | None = None) -> None:
        """Store the rows of an episode in one stream, after the rows that it has.

        Args:
            episode: rows `time ...`, of which the last may be `is_last`. Row 0 becomes `is_first`
                if it is not: what led to it is unknown. `carry`, with one entry for each row, is
                needed with `context = 1`.
            stream: by default the one with the fewest rows.

        Raises:
            ValueError: as for `add`, a row in the middle begins or ends an episode, or the stream
                is in the middle of an episode that `add` stored. Nothing was added.
        """
        if not isinstance(episode, Batch) or not isinstance(episode.obs, Mapping):
            given = episode.obs if isinstance(episode, Batch) else episode
            raise TypeError(
                f"add_episode takes a wb.replay.Batch, whose obs is a dict by key, got "
                f"{described(given)}; give Batch(obs={{'image': x}}, prev_action=…, …)"
            )
        episode = checked_episode(episode)
        packed, template = flatten(episode.carry, "carry")
        values = {f"obs/{key}": value for key, value in episode.obs.items()} | packed
        values |= {name: getattr(episode, name) for name in FIXED}
        rings = self._rings
        if rings is None:
            rings = self._empty(first_layout(values, len(episode.reward), self.context))
        place = int(rings.count.argmin())
        if stream is not None:
            [place] = check_streams([stream], self.streams).tolist()
        before = rings.stored
        self._check_ended(rings, place)
        rings.extend(place, len(episode.reward), values)
        self._rings, self._carry = rings, template if self.context else None
        self._recorded[place] = int(rings.count[place])
        if self._listener is not None:
            self._listener(before, rings.stored)

    def episodes(self) -> Iterator[Batch]:
        """The stored episodes, `time ...`, in host memory, one stream after the other.

        The first of a stream may have lost its beginning, and the last may be unfinished. `carry`
        has one entry for each row. `is_last` is also set where an episode was abandoned.

        Raises:
            RuntimeError: rows added between two episodes have overwritten one.
        """
        if self._rings is not None:
            yield from stored_episodes(self._rings, self._carry)

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

    def __getstate__(self) -> Any:
        """Neither pickled nor copied: the rows may be many times the memory in use.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a SequenceReplay was to be pickled or copied, which would copy the memory for all of "
            "its capacity; save it in a folder and load that into another replay"
        )

    def _check_ended(self, rings: Rings, stream: int) -> None:
        """Raise if an environment would go on in this stream after an episode in between."""
        last = int(rings.count[stream]) - 1
        if last < 0 or self._recorded.get(stream) == last + 1:
            return
        if not rings.read("is_last", np.array([stream]), np.array([last])).item():
            raise ValueError(
                f"an episode was to be added to stream {stream}, whose environment is in the "
                f"middle of one (row {last} is not is_last); add recorded episodes before its "
                f"rows, or in a stream of their own"
            )

    def _empty(self, layout: Layout) -> Rings:
        kind = Rings if isinstance(self.storage, OnDevice) else HostRings
        return kind(layout, self.streams, self._kept, self.storage)

    def _save_rows(self, folder: Path, version: int) -> dict[str, Any]:
        """Save new rows to a folder. Returns their part of a manifest."""
        rings = self._rings
        return {
            "rows": [0] * self.streams if rings is None else rings.count.tolist(),
            "layout": {} if rings is None else layout_to_json(rings.layout),
            "carry": template_to_json(self._carry),
            "files": {} if rings is None else self._chunks.save(folder, rings, version),
        }

    def _read_rows(self, folder: Path, manifest: Mapping[str, Any]) -> Callable[[], None]:
        """Read saved rows. Returns what puts them in the place of those that are stored."""
        rings, chunks = None, Chunks()
        if manifest["layout"]:
            rings = self._empty(layout_from_json(manifest["layout"]))
            rings.restart(np.array(manifest["rows"], np.int64))
            chunks.load(folder, manifest["files"], rings)

        def put() -> None:
            self._rings, self._chunks, self._recorded = rings, chunks, {}
            self._carry = template_from_json(manifest["carry"]) if self.context else None

        return put
