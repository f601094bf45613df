"""Files that survive a killed process, and how to tell whether they did."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESTORE = "restore it from a copy, or start again in another run folder"


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the entries of a folder."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders; its file system keeps its entries in order itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Give a file new contents so that a reader finds the old or the new ones, whole."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(text, encoding="utf-8")
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def fingerprint(path: Path) -> dict[str, int]:
    """Size in bytes and CRC32 of a file, read in pieces."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            size, crc = size + len(piece), zlib.crc32(piece, crc)
    return {"size": size, "crc32": crc}


def check_size(path: Path, entry: Mapping[str, Any]) -> None:
    """Raise a sentence unless a file is there with the size it was saved with."""
    if not path.exists():
        raise FileNotFoundError(f"the checkpoint needs {path}, which is missing; {RESTORE}")
    size = path.stat().st_size
    if size != entry["size"]:
        how = "truncated" if size < entry["size"] else "too long"
        raise ValueError(
            f"{path} is {how}: it has {size} bytes, {entry['size']} were saved; {RESTORE}"
        )


def check_contents(path: Path, entry: Mapping[str, Any]) -> None:
    """Raise a sentence unless a file has the size and the CRC32 it was saved with."""
    check_size(path, entry)
    crc = fingerprint(path)["crc32"]
    if crc != entry["crc32"]:
        raise ValueError(
            f"{path} is corrupted: its CRC32 is {crc:08x}, that of the saved file was "
            f"{entry['crc32']:08x}; {RESTORE}"
        )
