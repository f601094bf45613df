"""The folder of a run: made, checked, and kept by one process at a time."""

import atexit
import itertools
import json
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from worldblocks.run.config import FORMAT, check_same, read_config
from worldblocks.run.saves.durable import replace_text

_held: dict[tuple[int, int, int], int] = {}  # folders that this process writes: their locks


def run_folder(
    logdir: Path | str,
    config: Mapping[str, Any],
    resume: bool,
    *,
    may_change: Collection[str] = (),
    write: bool = True,
) -> Path:
    """Create the folder and `config.json` of a new run, or check that a run can be resumed.

    A folder belongs to one process at a time, until that process ends.

    Args:
        logdir: The run folder.
        config: JSON-able fields that determine the run.
        resume: Whether to continue an existing run.
        may_change: Fields that a resumed run may change, such as the number of steps;
            `config.json` then has the new value.
        write: False checks and writes nothing.

    Raises:
        FileExistsError: The folder has a run and `resume` is False.
        FileNotFoundError: The folder has no run and `resume` is True.
        NotADirectoryError: The folder, or one above it, is a file.
        BlockingIOError: Another process writes into the folder.
        OSError: The folder cannot be written.
        ValueError: The run in the folder has another configuration.
    """
    folder = Path(logdir)
    path = folder / "config.json"
    # Through JSON: tuples become lists, as they are read back.
    wanted = json.loads(json.dumps({**config, "format": FORMAT}))
    check_folder(folder, resume)
    if resume:
        check_same(folder, read_config(folder), wanted, {*may_change, "format"})
    folder.mkdir(parents=True, exist_ok=True)
    _hold(folder)
    if not write:
        return folder
    if not resume:
        try:
            path.open("x").close()  # of two that come at once, also from two machines, one
        except FileExistsError:
            check_folder(folder, resume)
    replace_text(path, json.dumps(wanted, indent=2) + "\n")
    return folder


def check_folder(logdir: Path | str, resume: bool) -> None:
    """Check that a folder has a run to resume, or none if a new one is to begin.

    Raises:
        OSError: as in `run_folder`.
    """
    folder = Path(logdir)
    check_writable(folder, "the --logdir of another folder")
    exists = (folder / "config.json").exists()
    if exists:
        _hold(folder, test=True)
    if resume and not exists:
        raise FileNotFoundError(
            f"nothing to resume in {logdir}: it has no config.json; start without --resume, "
            f"or give the --logdir of a run"
        )
    if exists and not resume:
        raise FileExistsError(
            f"{logdir} holds a run already; add --resume to continue it, or give another --logdir"
        )


def check_writable(folder: Path | str, instead: str) -> None:
    """Check that files can be written into a folder, which need not exist yet.

    Args:
        folder: The folder.
        instead: What to give if not, such as "--output in another folder".

    Raises:
        NotADirectoryError: The folder, or one above it, is a file.
        PermissionError: Files cannot be written there.
    """
    folder = Path(folder)
    above = (folder, *folder.absolute().parents)
    place = next(one for one in above if one.exists() or one.is_symlink())  # to nothing
    asked = f"asked to write into {folder}, but {place}"
    if not place.is_dir():
        raise NotADirectoryError(f"{asked} is not a folder; give {instead}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(f"{asked} cannot be written; give {instead}")


def default_logdir(*parts: object) -> str:
    """A new folder under `logs`, named after the parts and the time: `logs/cpu-0-20261122-140501`.

    It is made, so that no other run gets it; see `new_folder`.
    """
    name = "-".join([*map(str, parts), time.strftime("%Y%m%d-%H%M%S")])
    with suppress(OSError):  # `check_folder` says why
        return str(new_folder(Path("logs") / name))
    return str(Path("logs") / name)


def new_folder(path: Path) -> Path:
    """Make a folder that nobody else has: `path`, or with `-2`, `-3` … at its end, if it is there.

    If nothing is written into it, it is removed at the end of the process.

    Raises:
        OSError: it cannot be made.
    """
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            atexit.register(_remove_empty, folder.absolute())
            return folder
        if not folder.parent.is_dir():
            raise NotADirectoryError(
                f"asked for a folder {folder}, but {folder.parent} is not a folder; give another"
            )
    raise AssertionError


def result_folder(logdir: Path | str, default: Path) -> Path:
    """The folder of a tool's `result.json`, which is never written twice.

    Args:
        logdir: The value of `--logdir`, if given.
        default: The folder otherwise; of several results, the second ends in `-2`.

    Raises:
        FileExistsError: There is a result in `logdir`.
        PermissionError: The folder cannot be written.
    """
    folder = Path(logdir or default)
    check_writable(folder if logdir else folder.parent, "the --logdir of another folder")
    if not logdir:
        return new_folder(folder)
    if (folder / "result.json").exists():
        raise FileExistsError(f"{folder} holds a result.json already; give another --logdir")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it has files
        folder.rmdir()


def _hold(folder: Path, test: bool = False) -> None:
    """Keep other processes out of a folder until this one ends; with `test`, only look.

    The lock is the system's: it goes with the process, however that ends. Where a file system has
    none, nothing is held.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    handle = os.open(folder, os.O_RDONLY)
    status = os.fstat(handle)
    key = (os.getpid(), status.st_dev, status.st_ino)
    kept = False
    try:
        if key not in _held:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kept = not test
    except BlockingIOError:
        raise BlockingIOError(
            f"another process writes the run in {folder} now; wait until it ends or stop it before "
            f"--resume, or give another --logdir"
        ) from None
    except OSError:
        pass
    finally:
        if kept:
            _held[key] = handle
        else:
            os.close(handle)


def named_folder(logdir: Path | str) -> str:
    """The folder that a `--logdir` names: `~` is the home, `{timestamp}` the time.

    >>> named_folder("logs/{timestamp}")[:7]
    'logs/20'
    """
    stamped = str(logdir).replace("{timestamp}", time.strftime("%Y%m%d-%H%M%S"))
    return str(Path(stamped).expanduser())
