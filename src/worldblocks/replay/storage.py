"""Where rows are kept: each storage gives the memory that the rings of a replay are cut from."""

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

MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.12 on
NO_ROOM = (errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Memory:
    """Rows in host memory, reserved at once and taken page by page as rows come.

    Args:
        pin_memory: whether batches are in pinned memory, which a CUDA device reads by itself:
            `batch.to(device, non_blocking=True)` then returns at once.

    Raises:
        ValueError: pinned memory without CUDA.
    """

    pin_memory: bool = False

    def __post_init__(self) -> None:
        _check_pinned(self.pin_memory)

    def __str__(self) -> str:
        return "this machine"

    def reserve(self, size: int) -> UInt8[Tensor, " byte"]:
        """So many bytes.

        Linux refuses an ordinary allocation larger than the memory it has, even if it will never
        be filled; a mapping without reservation is granted.
        """
        if sys.platform != "linux":
            return torch.empty(size, dtype=torch.uint8)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        return torch.frombuffer(mmap.mmap(-1, size, flags=flags), dtype=torch.uint8)


@dataclass(frozen=True)
class MemoryMapped:
    """Rows in a file on disk, mapped into memory: for more rows than memory holds.

    The system keeps in memory what is used and there is room for. The file takes all of its disk
    at the first row, which is a matter of an instant where the filesystem can (ext4, xfs),
    and elsewhere (some network disks) of writing so many bytes: a file that grew as rows come
    could meet a full disk, and the system kills a process that writes to a mapping there. On
    macOS, which cannot reserve, it grows.

    The file has no name: it is gone with the replay, however the process ends. The folder
    therefore stays empty, and may be used by any number of replays, again or at once. What is to
    outlive the process is saved, as from any storage.

    Args:
        folder: on the disk to use, which should be a local one; made if it is not there.
        pin_memory: as of `Memory`.

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
        """So many bytes.

        Raises:
            OSError: the disk has less, or the folder cannot be written.
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
                f"rows cannot be kept in {str(folder)!r}: {error.strerror}; give a folder that "
                f"this process may make or write"
            ) from error


@dataclass(frozen=True)
class OnDevice:
    """Rows on a device, from which batches are gathered on that device and need not be moved.

    All of the memory is taken at the first row. `Batch.row` stays in host memory.

    Args:
        device: such as `"cuda"`.

    Raises:
        ValueError: this machine has no such device.
    """

    device: torch.device | str

    def __post_init__(self) -> None:
        check_device("rows cannot be kept on", self.device)

    def __str__(self) -> str:
        return f"the device {str(self.device)!r}"

    def reserve(self, size: int) -> UInt8[Tensor, " byte"]:
        """So many bytes."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)


Storage = Memory | MemoryMapped | OnDevice


def check_storage(storage: Any) -> None:
    """Raise unless it is a storage."""
    if not isinstance(storage, Storage):
        raise ValueError(
            f"a replay got storage={storage!r}; it takes wb.replay.Memory(), MemoryMapped(folder) "
            f"or OnDevice(device)"
        )


def check_device(what: str, device: torch.device | str) -> None:
    """Raise unless this machine has the device; `what` begins the sentence."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"{what} the device {str(device)!r}: {error}; on this machine {_devices()} would do"
        ) from error


def no_room(error: BaseException) -> bool:
    """Whether less memory or disk would have been given."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    # PyTorch has a type for a full GPU, and none for the host's memory or a size beyond all bounds.
    full = isinstance(error, torch.OutOfMemoryError | OverflowError)
    return full or any(word in str(error) for word in ("allocate", "alloc_cpu", "overflow"))


def _check_pinned(pin_memory: bool) -> None:
    if pin_memory and not torch.cuda.is_available():
        raise ValueError(
            "pin_memory=True puts batches where a CUDA device reads them by itself, and this "
            "machine has no CUDA device; leave it False"
        )


def _devices() -> str:
    cuda = [f"'cuda:{index}'" for index in range(torch.cuda.device_count())]
    return " or ".join(["'cpu'", *cuda])
