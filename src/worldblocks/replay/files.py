"""A replay as files that are written once and never changed.

The rows of a ring are cut into chunks of consecutive rows, all streams together; what a chunk
holds is in one file of observations, actions, rewards and flags, which never change, and one of
carries, which training rewrites. A save writes only what no file holds yet: the last chunk, which
has grown, and chunks of carries that changed. It never touches an existing file, so whatever an
earlier manifest names stays as it was, however a save ends. Files that no manifest names any more
are the caller's to delete.
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
CHUNK_BYTES = 2**25  # of all rows of a chunk: the most a save writes again for a few new rows


class Entry(NamedTuple):
    """A file: rows start … stop - 1 of every stream, `part` of what they hold."""

    part: str
    start: int
    stop: int
    size: int
    crc32: int


class Chunks:
    """Which file holds which rows. Chunk k of n rows each is rows k · n … (k + 1) · n - 1.

    The oldest chunk may have lost its first rows to eviction, the newest is not full: a file
    serves as long as it holds all rows of its chunk that are still stored, and no others follow.
    """

    def __init__(self) -> None:
        self._rows = 1
        self._folder = Path()
        self._files: dict[tuple[str, int], tuple[str, Entry]] = {}  # by part and chunk

    def changed(self, time: NDArray[np.int64]) -> None:
        """Carries of these rows are no longer what the files say."""
        for chunk in np.unique(time // self._rows).tolist():
            self._files.pop(("carry", chunk), None)

    def save(self, folder: Path, rings: Rings) -> dict[str, Any]:
        """Write what is not in the folder yet; file name to entry of all that make up the rings."""
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if folder != self._folder:
            self._folder, self._rows, self._files = folder, _chunk_rows(rings), {}
        version = 1 + max((_version(path) for path in folder.glob("*-v*.safetensors")), default=0)
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
        """Fill rings, whose `count` is already that of the save, from what `save` returned."""
        self._folder, self._rows, self._files = folder.resolve(), _chunk_rows(rings), {}
        for file, fields in files.items():
            entry = Entry(**fields)
            start, stop = max(entry.start, rings.oldest), min(entry.stop, rings.count)
            for name, value in _read(folder / file, entry).items():
                rings.write(name, start, value[:, start - entry.start : stop - entry.start])
            self._files[entry.part, entry.start // self._rows] = file, entry

    def _holds(self, part: str, chunk: int, start: int, stop: int) -> bool:
        file, entry = self._files.get((part, chunk), ("", None))
        if entry is None or not (self._folder / file).exists():
            return False
        return entry.start <= start and entry.stop == stop


def check_manifest(manifest: Mapping[str, Any], ours: Mapping[str, int]) -> None:
    """Whether a saved replay has the format and the sizes of the one that loads it.

    Raises:
        ValueError: names the first that differs.
    """
    for name, number in ours.items():
        if manifest[name] != number:
            raise ValueError(
                f"the saved replay has {name}={manifest[name]}, and this one {name}={number}; "
                f"load it into one with {name}={manifest[name]}"
            )


def _chunk_rows(rings: Rings) -> int:
    """Rows of a chunk, so that it is about `CHUNK_BYTES`."""
    row = rings.streams * sum(spec.bytes for spec in rings.layout.values())
    return max(1, CHUNK_BYTES // row)


def _parts(rings: Rings) -> dict[str, list[str]]:
    """The names of what is written once, and of what `write_back` changes."""
    carry = carried(rings.layout)
    parts = {"rows": [name for name in rings.layout if name not in carry], "carry": list(carry)}
    return {part: names for part, names in parts.items() if names}


def _version(path: Path) -> int:
    return int(path.stem.rpartition("-v")[2])


def _write(path: Path, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> tuple[int, int]:
    """Size and CRC32 of a file that is new and safely on disk."""
    data = _safetensors().save(dict(tensors))
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return len(data), zlib.crc32(data)


def _read(path: Path, entry: Entry) -> dict[str, Shaped[Tensor, "..."]]:
    """The tensors of a file, checked byte for byte.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not what was written.
    """
    remedy = "restore it from a copy, or go on from another checkpoint"
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
            "saving and loading a replay needs the extra 'run': pip install \"worldblocks[run]\""
        ) from error
    return safetensors.torch
