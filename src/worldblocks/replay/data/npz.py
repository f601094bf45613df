"""Episodes as files of NumPy, one npz file for each."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from worldblocks.replay.batch import Batch
from worldblocks.replay.data.arrays import episode_from_numpy
from worldblocks.replay.episodes import checked_episode
from worldblocks.spaces import Actions, Continuous, Discrete

NEEDED = ("obs", "action", "reward", "terminated")


def read_npz(folder: Path | str, *, actions: Actions | None = None) -> Iterator[Batch]:
    """The episodes in the npz files of a folder, in the order of their names.

    A file holds the arrays of one `episode_from_numpy` under the names of its arguments: `obs`,
    `action`, `reward`, `terminated` and, where there is one, `truncated`. Several observations are
    `obs/camera`, `obs/speed`, several parts of an action `action/arm`, `action/jump`. Other arrays
    are ignored. Files are read one by one, as the episodes are asked for.

    Args:
        folder: the folder.
        actions: what the actions are, by key. By default integers have as many classes as the
            largest in all files says; a class that nobody chose is then not known.

    Raises:
        FileNotFoundError: there is no such folder, or no npz file in it.
        ValueError: a file cannot be read, lacks an array, has one that `episode_from_numpy`
            refuses, or its episode is of another kind than the first. Names the file.
    """
    paths = sorted(Path(folder).expanduser().glob("*.npz"))
    if not paths:
        what = "has no file *.npz" if Path(folder).expanduser().is_dir() else "is not a folder"
        raise FileNotFoundError(
            f"no episodes in {folder}: it {what}; wb.replay.write_npz(folder, episodes) makes one"
        )
    return _episodes(paths, actions or _described(paths))


def write_npz(folder: Path | str, episodes: Iterable[Batch]) -> list[Path]:
    """Write episodes to a folder as files `episode-000000.npz` …, which `read_npz` reads.

    Actions are written as flat float vectors, one-hots included. A carry, and the reward and
    action of row 0, which belong to what came before the episode, are not written. The last row
    is `truncated` unless it is terminal.

    Returns:
        The paths of the files.

    Raises:
        FileExistsError: the folder has npz files already.
        ValueError: there is no episode, or one has a wrong form; see `SequenceReplay.add_episode`.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> obs, action = np.array([[0.5], [1.5], [2.5]]), np.array([[0.1], [0.2]])
    >>> [path] = write_npz(folder.name, [episode_from_numpy(obs, action, [0.0, 1.0], True)])
    >>> path.name, sorted(np.load(path))
    ('episode-000000.npz', ['action', 'obs/vector', 'reward', 'terminated', 'truncated'])
    >>> [episode] = read_npz(folder.name)
    >>> episode.reward.tolist(), episode.is_terminal.tolist()
    ([0.0, 0.0, 1.0], [False, False, True])
    >>> folder.cleanup()
    """
    if isinstance(episodes, Batch):
        raise ValueError("write_npz takes a list of episodes, got one Batch; give [episode]")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.npz")):
        raise FileExistsError(
            f"{folder} holds npz files already, and two data sets would be one; give another folder"
        )
    paths: list[Path] = []
    for number, batch in enumerate(episodes):
        episode = checked_episode(batch.to("cpu"))
        terminal = bool(episode.is_terminal[-1])
        arrays: dict[str, Any] = {
            **{f"obs/{key}": value.numpy() for key, value in episode.obs.items()},
            "action": episode.prev_action[1:].numpy(),
            "reward": episode.reward[1:].numpy(),
            "terminated": np.array(terminal),
            "truncated": np.array(not terminal),
        }
        path = folder / f"episode-{number:06d}.npz"
        part = path.with_suffix(".part")  # so that an interrupted write leaves no torn episode
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        paths.append(part.rename(path))
    if not paths:
        raise ValueError("write_npz got no episode; it needs at least one")
    return paths


def _episodes(paths: list[Path], actions: Actions) -> Iterator[Batch]:
    first = None
    for path in paths:
        arrays = _read(path)
        try:
            episode = episode_from_numpy(
                _parts(arrays, "obs"),
                _parts(arrays, "action"),
                arrays["reward"],
                arrays["terminated"],
                arrays.get("truncated", False),
                actions=actions,
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        kind = _kind(episode)
        first = first or kind
        if kind != first:
            raise ValueError(
                f"{path} holds {kind}, {paths[0].name} {first}; all episodes of a data set have "
                f"the same observations"
            )
        yield episode


def _described(paths: list[Path]) -> Actions:
    """What the actions of all files are: classes up to the largest, or numbers."""
    found: dict[str, Continuous | Discrete] = {}
    for path in paths:
        parts = _parts(_read(path, "action"), "action")
        named = parts if isinstance(parts, dict) else {"action": parts}
        for key, value in named.items():
            space, before = Continuous(value.shape[1:]), found.get(key)
            if value.dtype.kind in "biu":
                classes = before.classes if isinstance(before, Discrete) else 1
                most = max(classes, int(value.max(initial=0)) + 1)
                space = Discrete(most, value.shape[1:])
            if before and (type(before), before.shape) != (type(space), space.shape):
                raise ValueError(
                    f"{path}: action {key!r} is {value.dtype}{list(value.shape)}, in files before "
                    f"it {before}; all episodes of a data set have the same actions"
                )
            found[key] = space
    return found


def _read(path: Path, only: str = "") -> dict[str, ndarray]:
    """The arrays of a file, or those of one name."""
    names = [only] if only else [*NEEDED, "truncated"]
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is torn, or no npz file")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files if name.split("/")[0] in names}
            there = saved.files
    except (ValueError, EOFError, OSError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read: {error}; it must be a file of np.savez whose arrays hold "
            f"numbers, not Python objects"
        ) from error
    for name in ("obs", "action"):
        inside = [one for one in arrays if one.startswith(f"{name}/")]
        if inside and (name in arrays or f"{name}/" in inside):
            raise ValueError(
                f"{path} has {sorted(there)}; {name} is one array {name!r} or several "
                f"'{name}/NAME', not both: rename or remove one"
            )
    found = {"truncated", *(name.split("/")[0] for name in arrays)}
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it has {sorted(there)}, and an episode has "
            f"obs (or obs/NAME), action (or action/NAME), reward and terminated"
        )
    return arrays


def _parts(arrays: dict[str, ndarray], name: str) -> ndarray | dict[str, ndarray]:
    """The array `name`, or the arrays `name/…` by key."""
    if name in arrays:
        return arrays[name]
    start = f"{name}/"
    return {key.removeprefix(start): x for key, x in arrays.items() if key.startswith(start)}


def _kind(episode: Batch) -> str:
    """The layout of the rows, in words."""
    parts = [f"{key!r} {x.dtype}{list(x.shape[1:])}" for key, x in sorted(episode.obs.items())]
    return ", ".join(parts).replace("torch.", "")
