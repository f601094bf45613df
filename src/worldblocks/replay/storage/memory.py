"""Storages: where the memory for the rows of a replay comes from."""

import errno
import mmap
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

MAP_NORESERVE = 0x4000  # on Linux; mmap.MAP_NORESERVE needs Python 3.12
NO_ROOM = (errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Memory:
    """Rows in host memory, reserved at once and allocated page by page as rows arrive.

    Args:
        pin_memory: whether batches are in pinned memory, so that
            `batch.to(device, non_blocking=True)` is asynchronous on CUDA.

    Raises:
        ValueError: pinned memory without CUDA.
    """

    pin_memory: bool = False

    def __post_init__(self) -> None:
        _check_pinned(self.pin_memory)

    def __str__(self) -> str:
        return "this machine"

    def reserve(self, size: int) -> UInt8[Tensor, " byte"]:
        """Reserve `size` bytes.

        Linux refuses ordinary allocations larger than its memory, even if they are never filled. It
        allows a mapping without reservation.
        """
        if sys.platform != "linux":
            return torch.empty(size, dtype=torch.uint8)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        return torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=torch.uint8)


@dataclass(frozen=True)
class MemoryMapped:
    """Rows in a file on disk, mapped into memory, for more rows than fit into memory.

    The system caches the pages in use. All disk space is reserved at the first row: a growing file
    could meet a full disk, and the system kills a process that writes to a mapping there. This is
    instant where the filesystem supports it (ext4, xfs), and otherwise (some network disks) writes
    the whole file. On macOS, which cannot reserve space, the file grows.

    The file has no name and disappears with the replay, however the process ends. The folder stays
    empty and can be shared by any number of replays. Use `save` to keep rows, as with any storage.

    Args:
        folder: a folder on a disk, preferably local; created if missing.
        pin_memory: as for `Memory`.

    Raises:
        ValueError: pinned memory without CUDA.
    """

    folder: Path | str
    pin_memory: bool = False

    def __post_init__(self) -> None:
        _check_pinned(self.pin_memory)

    def __str__(self) -> str:
        return f"the disk of {self.folder}"

    def reserve(self, size: int) -> UInt8[Tensor, " byte"]:
        """Reserve `size` bytes.

        Raises:
            OSError: the disk has too little space, or the folder cannot be written.
        """
        folder = Path(self.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if size > (free := shutil.disk_usage(folder).free):
                raise OSError(errno.ENOSPC, f"{folder} has {free / 1e9:.1f} GB free")
            with tempfile.TemporaryFile(dir=folder) as file:
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)
        except OSError as error:
            if no_room(error):
                raise
            raise OSError(
                f"rows cannot be kept in {str(folder)!r}: {error.strerror}; use a folder that "
                f"this process can create and write"
            ) from error


@dataclass(frozen=True)
class OnDevice:
    """Rows on a device, where batches are gathered without a copy from the host.

    All memory is allocated at the first row. `Batch.row` stays in host memory.

    Args:
        device: the device, such as `"cuda"`.

    Raises:
        ValueError: this machine has no such device.
    """

    device: torch.device | str

    def __post_init__(self) -> None:
        check_device("rows cannot be kept on", self.device)

    def __str__(self) -> str:
        return f"the device {str(self.device)!r}"

    def reserve(self, size: int) -> UInt8[Tensor, " byte"]:
        """Reserve `size` bytes."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)


Storage = Memory | MemoryMapped | OnDevice


def check_storage(storage: Any) -> None:
    """Raise unless `storage` is one of the three storages."""
    if not isinstance(storage, Storage):
        raise ValueError(
            f"a replay got storage={storage!r}; it takes wb.replay.Memory(), MemoryMapped(folder) "
            f"or OnDevice(device)"
        )


def check_device(what: str, device: torch.device | str) -> None:
    """Raise unless this machine has the device; the message starts with `what`."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        devices = ["'cpu'", *(f"'cuda:{i}'" for i in range(torch.cuda.device_count()))]
        raise ValueError(
            f"{what} the device {str(device)!r}: {error}; this machine has {', '.join(devices)}"
        ) from error


def no_room(error: BaseException) -> bool:
    """True if an allocation failed because there was too little memory or disk space."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    # PyTorch has an error type for a full GPU, but none for host memory or an overflowing size.
    full = isinstance(error, torch.OutOfMemoryError | OverflowError)
    return full or any(word in str(error) for word in ("allocate", "alloc_cpu", "overflow"))


def _check_pinned(pin_memory: bool) -> None:
    if pin_memory and not torch.cuda.is_available():
        raise ValueError(
            "pin_memory=True needs a CUDA device, and this machine has none; use pin_memory=False"
        )
