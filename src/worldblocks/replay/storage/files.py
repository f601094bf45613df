"""Incremental saving of a replay in files that never change.

The rows of all streams are split into chunks of consecutive rows. Each chunk has one file of
observations, actions, rewards and flags, which never change, and one file of carries, which
training rewrites. A save writes only new data: the last chunk, which has grown, and the carries of
chunks that changed. It never touches existing files, so earlier manifests stay valid even if a save
is interrupted. The caller deletes files that no manifest lists any more.

The manifest itself is written last, as one of the files, so that a folder can be opened alone.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from worldblocks._install import install
from worldblocks.replay.storage.earlier import EARLIER
from worldblocks.replay.storage.layout import carried
from worldblocks.replay.storage.rings import Rings
from worldblocks.replay.storage.stored import rows_between

MANIFEST = "manifest"
CHUNK_BYTES = 2**25  # size of a chunk: the most that a save rewrites for a few new rows


Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]  # start and stop of each stream


class Entry(NamedTuple):
    """A file with one part (rows or carry) of rows start … stop - 1 of each stream.

    Its tensors are `row ...`: the rows of the first stream, those of the second, and so on.
    """

    part: str
    start: list[int]
    stop: list[int]
    size: int
    crc32: int

    @property
    def ranges(self) -> Ranges:
        """`start` and `stop` as arrays."""
        return np.array(self.start, np.int64), np.array(self.stop, np.int64)


class Chunks:
    """Maps chunks of rows to files. Chunk k of n rows contains rows k · n … (k + 1) · n - 1.

    Of the oldest chunk of a stream, the first rows may be evicted; its newest may not be full. A
    file is reused while it contains all stored rows of its chunk and no stream has more.
    """

    def __init__(self) -> None:
        self._rows = 1
        self._folder = Path()
        self._files: dict[tuple[str, int], tuple[str, Entry]] = {}  # by part and chunk

    def changed(self, time: NDArray[np.int64]) -> None:
        """Mark the carries of these rows as changed."""
        for chunk in np.unique(time // self._rows).tolist():
            self._files.pop(("carry", chunk), None)

    def save(self, folder: Path, rings: Rings, version: int) -> dict[str, Any]:
        """Write new data to the folder. Returns the entry of every file that the rings need."""
        if folder != self._folder:
            self._folder, self._rows, self._files = folder, _chunk_rows(rings), {}
        needed = {}
        for chunk, ranges in _chunks(rings, self._rows):
            for part, names in _parts(rings).items():
                if not self._holds(part, chunk, ranges):
                    file = f"{part}-{chunk:06}-v{version:06}.safetensors"
                    stream, time = rows_between(*ranges)
                    tensors = {name: rings.read(name, stream, time) for name in names}
                    size, crc32 = _write(folder / file, _safetensors().save(tensors))
                    start, stop = (edge.tolist() for edge in ranges)
                    self._files[part, chunk] = file, Entry(part, start, stop, size, crc32)
                needed[part, chunk] = self._files[part, chunk]
        self._files = needed
        return {file: entry._asdict() for file, entry in needed.values()}

    def load(self, folder: Path, files: Mapping[str, Any], rings: Rings) -> None:
        """Fill rings from the entries returned by `save`; `rings.count` is already set."""
        self._folder, self._rows, self._files = folder, _chunk_rows(rings), {}
        stored = rings.stored
        for file, fields in files.items():
            data = _read(folder / file, fields)
            if fields["part"] == MANIFEST:
                continue
            entry = Entry(**fields)
            stream, time = rows_between(*entry.ranges)
            stays = (time >= stored.oldest[stream]) & (time < stored.count[stream])
            values = {}
            for name, value in _safetensors().load(data).items():
                name = name if name in rings.layout else EARLIER[name]
                flat = value.reshape(-1, *rings.layout[name].shape)
                values[name] = flat[torch.from_numpy(stays)]
            rings.put_rows(stream[stays], time[stays], values)
            self._files[entry.part, int(time[0]) // self._rows] = file, entry

    def _holds(self, part: str, chunk: int, ranges: Ranges) -> bool:
        file, entry = self._files.get((part, chunk), ("", None))
        if entry is None or not (self._folder / file).exists():
            return False
        (start, stop), (its_start, its_stop) = ranges, entry.ranges
        needed = start < stop  # streams with rows in this chunk
        return bool((~needed | (its_start <= start) & (its_stop == stop)).all())


def write_manifest(folder: Path, manifest: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Write a manifest into its folder. Returns it with an entry of its own file."""
    file = f"{MANIFEST}-v{version:06}.json"
    try:
        data = json.dumps(manifest).encode()
    except TypeError as error:
        raise TypeError(f"the selector's state is not JSON ({error}); use x.tolist()") from error
    size, crc32 = _write(folder / file, data)
    own = {"part": MANIFEST, "size": size, "crc32": crc32}
    return {**manifest, "files": {**manifest["files"], file: own}}


def newest_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the last complete save into a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in sorted(folder.glob(f"{MANIFEST}-v*.json"), reverse=True):
        with contextlib.suppress(ValueError):  # that save was interrupted
            return json.loads(path.read_text(encoding="utf-8"))
    raise FileNotFoundError(
        f"no saved replay in {folder}: it has no {MANIFEST}-v….json; give the folder that "
        f"SequenceReplay.save wrote, such as <run>/checkpoint/replay, and if an earlier version of "
        f"worldblocks wrote it, resume and save that run once"
    )


def next_version(folder: Path) -> int:
    """The number of the next save into a folder."""
    saved = folder.glob("*-v[0-9][0-9][0-9][0-9][0-9][0-9].*")
    return 1 + max((int(path.stem.rpartition("-v")[2]) for path in saved), default=0)


def _chunk_rows(rings: Rings) -> int:
    """Number of rows in a chunk of about `CHUNK_BYTES`."""
    row = rings.streams * sum(spec.bytes for spec in rings.layout.values())
    return max(1, CHUNK_BYTES // row)


def _parts(rings: Rings) -> dict[str, list[str]]:
    """The names of each part: rows, written once, and carries, changed by `write_back`."""
    carry = carried(rings.layout)
    parts = {"rows": [name for name in rings.layout if name not in carry], "carry": list(carry)}
    return {part: names for part, names in parts.items() if names}


def _chunks(rings: Rings, rows: int) -> Iterator[tuple[int, Ranges]]:
    """Every chunk with stored rows, and the range of those of each stream."""
    oldest, count = rings.stored.oldest, rings.stored.count
    held = [
        range(first // rows, -(-last // rows)) for first, last in zip(oldest, count, strict=True)
    ]
    for chunk in sorted(set().union(*held)):
        start = np.maximum(oldest, chunk * rows)
        yield chunk, (start, np.maximum(start, np.minimum(count, (chunk + 1) * rows)))


def _write(path: Path, data: bytes) -> tuple[int, int]:
    """Write a new file and sync it to disk. Returns its size and CRC32."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data), zlib.crc32(data)


def _read(path: Path, entry: Mapping[str, Any]) -> bytes:
    """The contents of a file, after checking its size and CRC32.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is truncated or corrupted.
    """
    remedy = "restore it from a copy, or continue from another checkpoint"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"replay file {path} is missing; {remedy}") from error
    if len(data) != entry["size"]:
        raise ValueError(
            f"replay file {path} has {len(data)} bytes where {entry['size']} were saved; {remedy}"
        )
    if zlib.crc32(data) != entry["crc32"]:
        raise ValueError(f"replay file {path} is corrupted (its CRC32 differs); {remedy}")
    return data


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            f"saving and loading a replay needs the extra 'run': {install('run')}"
        ) from error
    return safetensors.torch
