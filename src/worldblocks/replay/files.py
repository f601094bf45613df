"""Incremental saving of a replay in files that never change.

The rows of all streams are split into chunks of consecutive rows. Each chunk has one file of
observations, actions, rewards and flags, which never change, and one file of carries, which
training rewrites. A save writes only new data: the last chunk, which has grown, and the carries of
chunks that changed. It never touches existing files, so earlier manifests stay valid even if a save
is interrupted. The caller deletes files that no manifest lists any more.
"""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from worldblocks.replay.layout import carried
from worldblocks.replay.rings import Rings

FORMAT = 1
# Parts of a carry that earlier versions stored under other names.
EARLIER = {"carry/deter": "carry/memory", "carry/index": "carry/stoch"}
CHUNK_BYTES = 2**25  # size of a chunk: the most that a save rewrites for a few new rows


class Entry(NamedTuple):
    """A file with one part (rows or carry) of rows start … stop - 1 of every stream."""

    part: str
    start: int
    stop: int
    size: int
    crc32: int


class Chunks:
    """Maps chunks of rows to files. Chunk k of n rows contains rows k · n … (k + 1) · n - 1.

    The first rows of the oldest chunk may be evicted, and the newest chunk may not be full. A file
    is reused while it contains all stored rows of its chunk and the chunk has not grown.
    """

    def __init__(self) -> None:
        self._rows = 1
        self._folder = Path()
        self._files: dict[tuple[str, int], tuple[str, Entry]] = {}  # by part and chunk

    def changed(self, time: NDArray[np.int64]) -> None:
        """Mark the carries of these rows as changed."""
        for chunk in np.unique(time // self._rows).tolist():
            self._files.pop(("carry", chunk), None)

    def save(self, folder: Path, rings: Rings) -> dict[str, Any]:
        """Write new data to the folder. Returns the entry of every file that the rings need."""
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if folder != self._folder:
            self._folder, self._rows, self._files = folder, _chunk_rows(rings), {}
        saved = folder.glob("*-v*.safetensors")
        version = 1 + max((int(path.stem.rpartition("-v")[2]) for path in saved), default=0)
        needed = {}
        for chunk in range(rings.oldest // self._rows, -(-rings.count // self._rows)):
            start = max(rings.oldest, chunk * self._rows)
            stop = min(rings.count, (chunk + 1) * self._rows)
            for part, names in _parts(rings).items():
                if not self._holds(part, chunk, start, stop):
                    file = f"{part}-{chunk:06}-v{version:06}.safetensors"
                    tensors = {name: rings.read(name, start, stop) for name in names}
                    size, crc32 = _write(folder / file, tensors)
                    self._files[part, chunk] = file, Entry(part, start, stop, size, crc32)
                needed[part, chunk] = self._files[part, chunk]
        self._files = needed
        return {file: entry._asdict() for file, entry in needed.values()}

    def load(self, folder: Path, files: Mapping[str, Any], rings: Rings) -> None:
        """Fill rings from the entries returned by `save`; `rings.count` is already set."""
        self._folder, self._rows, self._files = folder.resolve(), _chunk_rows(rings), {}
        for file, fields in files.items():
            entry = Entry(**fields)
            start, stop = max(entry.start, rings.oldest), min(entry.stop, rings.count)
            for name, value in _read(folder / file, entry).items():
                name = name if name in rings.layout else EARLIER[name]
                rings.write(name, start, value[:, start - entry.start : stop - entry.start])
            self._files[entry.part, entry.start // self._rows] = file, entry

    def _holds(self, part: str, chunk: int, start: int, stop: int) -> bool:
        file, entry = self._files.get((part, chunk), ("", None))
        if entry is None or not (self._folder / file).exists():
            return False
        return entry.start <= start and entry.stop == stop


def current(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """A manifest whose carry, if an earlier version stored an RSSM's, has today's names."""
    old = manifest["carry"] or {}
    if (old.get("namedtuple"), *old.get("fields", ())) not in (
        ("Packed", "deter", "index"),
        ("GaussianCarry", "deter", "stoch"),
    ):
        return manifest
    fields = {"memory": "carry/memory", "stoch": "carry/stoch"}
    layout = {EARLIER.get(name, name): spec for name, spec in manifest["layout"].items()}
    return {**manifest, "layout": layout, "carry": {"namedtuple": "Packed", "fields": fields}}


def check_manifest(manifest: Mapping[str, Any], ours: Mapping[str, int]) -> None:
    """Check that a saved replay has the format and the sizes of the one that loads it.

    Raises:
        ValueError: names the first value that differs.
    """
    for name, number in ours.items():
        if manifest[name] != number:
            raise ValueError(
                f"the saved replay has {name}={manifest[name]}, and this one {name}={number}; "
                f"load it into one with {name}={manifest[name]}"
            )


def _chunk_rows(rings: Rings) -> int:
    """Number of rows in a chunk of about `CHUNK_BYTES`."""
    row = rings.streams * sum(spec.bytes for spec in rings.layout.values())
    return max(1, CHUNK_BYTES // row)


def _parts(rings: Rings) -> dict[str, list[str]]:
    """The names of each part: rows, written once, and carries, changed by `write_back`."""
    carry = carried(rings.layout)
    parts = {"rows": [name for name in rings.layout if name not in carry], "carry": list(carry)}
    return {part: names for part, names in parts.items() if names}


def _write(path: Path, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> tuple[int, int]:
    """Write a new file and sync it to disk. Returns its size and CRC32."""
    data = _safetensors().save(dict(tensors))
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data), zlib.crc32(data)


def _read(path: Path, entry: Entry) -> dict[str, Shaped[Tensor, "..."]]:
    """The tensors of a file, after checking its size and CRC32.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is truncated or corrupted.
    """
    remedy = "restore it from a copy, or continue from another checkpoint"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"replay file {path} is missing; {remedy}") from error
    if len(data) != entry.size:
        raise ValueError(
            f"replay file {path} has {len(data)} bytes where {entry.size} were saved; {remedy}"
        )
    if zlib.crc32(data) != entry.crc32:
        raise ValueError(f"replay file {path} is corrupted (its CRC32 differs); {remedy}")
    return _safetensors().load(data)


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "saving and loading a replay needs the extra 'run': pip install -e \".[run]\""
        ) from error
    return safetensors.torch
