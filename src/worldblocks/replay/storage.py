"""Where rows are kept: each storage gives the memory that the rings of a replay are cut from."""

import mmap
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.12 on


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

    The system keeps in memory what is used and there is room for. The file is sparse, it takes
    disk as rows come, and it has no name: it is gone with the replay, however the process ends.
    The folder therefore stays empty, and may be used by any number of replays, again or at once.
    What is to outlive the process is saved, as from any storage.

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
            OSError: the disk has less; a process that writes to a full one would be killed.
        """
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if size > (free := shutil.disk_usage(folder).free):
            raise OSError(f"{folder} has {free / 1e9:.1f} GB free")
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=torch.uint8)


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
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"rows cannot be kept on the device {str(self.device)!r}: {error}; on this machine "
                f"{_devices()} would do"
            ) from error

    def __str__(self) -> str:
        return f"the device {str(self.device)!r}"

    def reserve(self, size: int) -> UInt8[Tensor, " byte"]:
        """So many bytes."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)


Storage = Memory | MemoryMapped | OnDevice


def _check_pinned(pin_memory: bool) -> None:
    if pin_memory and not torch.cuda.is_available():
        raise ValueError(
            "pin_memory=True puts batches where a CUDA device reads them by itself, and this "
            "machine has no CUDA device; leave it False"
        )


def _devices() -> str:
    cuda = [f"'cuda:{index}'" for index in range(torch.cuda.device_count())]
    return " or ".join(["'cpu'", *cuda])
