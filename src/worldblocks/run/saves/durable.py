"""Files that survive a killed process, and checks that they did."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESTORE = "restore it from a copy, or start again in another run folder"


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders; NTFS orders their entries itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Replace the contents of a file in one step: a reader sees all old or all new ones."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="utf-8")
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def fingerprint(path: Path) -> dict[str, int]:
    """Size in bytes and CRC32 of a file, read in chunks."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return {"size": size, "crc32": crc}


def check_size(path: Path, entry: Mapping[str, Any]) -> None:
    """Raise unless a file exists and has the size that was saved."""
    if not path.exists():
        raise FileNotFoundError(f"the checkpoint needs {path}, which is missing; {RESTORE}")
    size = path.stat().st_size
    if size != entry["size"]:
        how = "truncated" if size < entry["size"] else "too long"
        raise ValueError(
            f"{path} is {how}: it has {size} bytes, but {entry['size']} were saved; {RESTORE}"
        )


def check_contents(path: Path, entry: Mapping[str, Any]) -> None:
    """Raise unless a file has the size and the CRC32 that were saved."""
    check_size(path, entry)
    crc = fingerprint(path)["crc32"]
    if crc != entry["crc32"]:
        raise ValueError(
            f"{path} is corrupted: its CRC32 is {crc:08x}, but {entry['crc32']:08x} was saved; "
            f"{RESTORE}"
        )
