"""Checkpoints that survive a kill at any moment, read without executing code."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from worldblocks.run.extras import extra
from worldblocks.run.saves.durable import (
    check_contents,
    check_size,
    fingerprint,
    replace_text,
    sync,
)
from worldblocks.run.saves.nested import flatten, unescape, unflatten

FORMAT = 1


class Store(Protocol):
    """Something large that writes its own files, such as a replay buffer.

    A manifest is a JSON-able dict; its `files` maps the name of each file, relative to the folder,
    to its `size` and `crc32`. A store never overwrites or deletes files of earlier manifests.
    """

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what changed since the last save and return the manifest of all files."""
        ...

    def load(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        """Check every file of the manifest, then load its contents."""
        ...


class Checkpoint:
    """Saves and loads the state of a run in `<logdir>/checkpoint`.

        manifest.json             the files of the checkpoint, with their sizes and CRC32
        state-<n>.safetensors     save number n: tensors by path, the rest as JSON in the header
        <store>/...               files of each store

    A save writes new files, waits for the disk and then replaces the manifest in one step. Only
    then does it delete files that the manifest no longer names. A run that is killed at any moment
    keeps its previous checkpoint or the new one. Nothing is pickled: loading executes no code.
    """

    def __init__(self, logdir: Path | str, keep: int = 1) -> None:
        """Args:
        logdir: The run folder; the first save makes its `checkpoint` folder.
        keep: Number of saves to keep, including the newest.
        """
        if keep < 1:
            raise ValueError(f"keep is the number of saves to keep, at least 1, got {keep}")
        self.folder = Path(logdir) / "checkpoint"
        self.keep = keep

    def exists(self) -> bool:
        """Whether there is a complete save.

        Raises:
            FileNotFoundError: The manifest of earlier saves is missing. A new save would delete
                their files.
        """
        if self._manifest.exists():
            return True
        # A kill during the very first save leaves state file 1 without a manifest.
        states = sorted(self.folder.glob("state-*.safetensors"))
        if states and states[-1].name > _state_name(1):
            raise FileNotFoundError(
                f"{self._manifest} is missing, though {states[-1].name} is there; restore it from "
                f"a copy, or start in another run folder"
            )
        return False

    def save(self, state: Any, *, stores: Mapping[str, Store] | None = None) -> None:
        """Write a nested state of tensors, arrays, numbers, strings, bytes, None, lists and dicts.

        Args:
            state: The state. Tensors are loaded on the CPU, everything else as it was.
            stores: Objects that write their own files, each into its folder.

        Raises:
            TypeError: An entry has another type. The previous checkpoint is unchanged.
        """
        tensors, skeleton = flatten(state)
        saves = self._saves() if self.exists() else []
        self.folder.mkdir(parents=True, exist_ok=True)
        number = saves[0]["number"] + 1 if saves else 1
        name = _state_name(number)
        path = self.folder / name
        header = {"state": json.dumps(skeleton)}
        extra("safetensors.torch", "Checkpoint").save_file(tensors, path, metadata=header)
        manifests = {}
        for store, writer in (stores or {}).items():
            (self.folder / store).mkdir(exist_ok=True)
            manifests[store] = writer.save(self.folder / store)
        entry = {"number": number, "state": {"name": name, **fingerprint(path)}}
        saves = [{**entry, "stores": manifests}, *saves][: self.keep]
        self._commit(saves)

    def load(self, back: int = 0) -> Any:
        """The saved state. Checks the state file, and the sizes of the stores' files.

        Args:
            back: 0 for the newest save, 1 for the one before, … up to `keep - 1`.

        Raises:
            FileNotFoundError: There is no checkpoint, or one of its files is missing.
            ValueError: A file is truncated or corrupted, or has another format version.
        """
        save = self._save(back)
        for store, manifest in save["stores"].items():
            for name, entry in manifest["files"].items():
                check_size(self.folder / store / name, entry)
        with self._open(save) as file:
            skeleton = json.loads(file.metadata()["state"])
            return unflatten(skeleton, _fetch(file))

    def header(self, back: int = 0) -> Any:
        """The saved state with None for each tensor, array and bytes; stores are not checked.

        Raises:
            FileNotFoundError: There is no checkpoint, or its state file is missing.
            ValueError: The state file is truncated or corrupted.
        """
        with self._open(self._save(back)) as file:
            return unflatten(json.loads(file.metadata()["state"]), None)

    def load_stores(self, stores: Mapping[str, Store], back: int = 0) -> None:
        """Load each store from its files; a store checks them before it changes.

        Raises:
            KeyError: The checkpoint has no store of that name.
        """
        saved = self._save(back)["stores"]
        for name in stores:
            if name not in saved:
                raise KeyError(
                    f"no store {name!r} in {self.folder}; this checkpoint has {sorted(saved)}"
                )
        for name, store in stores.items():
            store.load(self.folder / name, saved[name])

    def weights(self, prefix: str, back: int = 0) -> dict[str, Tensor]:
        """The tensors under a path such as `agent/`, named relative to it.

        Stores are not checked: a run whose replay was deleted still has its weights.

        Raises:
            KeyError: There are no tensors under that path.
        """
        prefix = prefix.rstrip("/") + "/"
        with self._open(self._save(back)) as file:
            fetch = _fetch(file)
            names = list(file.keys())
            found = [name for name in names if name.startswith(prefix)]
            if not found:
                tops = sorted({name.split("/")[0] for name in names})
                raise KeyError(f"no tensors under {prefix!r} in {self.folder}; it has {tops}")
            return {unescape(name.removeprefix(prefix)): fetch(name) for name in found}

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def _saves(self) -> list[dict[str, Any]]:
        """The saves in the manifest, newest first."""
        if not self.exists():
            raise FileNotFoundError(
                f"no checkpoint in {self.folder}: nothing has been saved there; start the run "
                f"without --resume, or give the folder of another run"
            )
        try:
            content = json.loads(self._manifest.read_text(encoding="utf-8"))
            version, saves, crc = content["format"], content["saves"], content["crc32"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(_broken(self._manifest)) from error
        if version != FORMAT:
            raise ValueError(
                f"{self._manifest} has format version {version!r}; this version of worldblocks "
                f"reads {FORMAT}: load it with the version that saved it"
            )
        if crc != _crc(saves):
            raise ValueError(_broken(self._manifest))
        return saves

    def _save(self, back: int) -> dict[str, Any]:
        saves = self._saves()
        if not 0 <= back < len(saves):
            raise ValueError(
                f"back={back} was requested, but {self.folder} keeps {len(saves)} saves"
            )
        return saves[back]

    def _open(self, save: Mapping[str, Any]) -> Any:
        path = self.folder / save["state"]["name"]
        check_contents(path, save["state"])
        return extra("safetensors", "Checkpoint").safe_open(path, framework="pt")

    def _commit(self, saves: list[dict[str, Any]]) -> None:
        """Sync the new files, name them in the manifest, delete files that it no longer names."""
        saves = json.loads(json.dumps(saves))  # keys become strings, as they are read back
        new = [self.folder / name for name in _names(saves[:1])]
        for path in new:
            sync(path)
        for folder in {self.folder, *(path.parent for path in new)}:
            sync(folder)
        content = {"format": FORMAT, "crc32": _crc(saves), "saves": saves}
        replace_text(self._manifest, json.dumps(content))
        named = {self.folder / name for name in _names(saves)}
        ours = list(self.folder.glob("state-*.safetensors"))
        for store in saves[0]["stores"]:
            ours += [path for path in (self.folder / store).rglob("*") if path.is_file()]
        for path in ours:
            if path not in named:
                path.unlink()


def _state_name(number: int) -> str:
    return f"state-{number:07d}.safetensors"


def _names(saves: list[dict[str, Any]]) -> set[str]:
    """Every file of these saves, relative to the checkpoint folder."""
    states = {save["state"]["name"] for save in saves}
    stores = [item for save in saves for item in save["stores"].items()]
    return states | {f"{store}/{name}" for store, manifest in stores for name in manifest["files"]}


def _fetch(file: Any) -> Callable[[str], Tensor]:
    # A copy: tensors of an open file are memory-mapped and would change with it.
    return lambda name: file.get_tensor(name).clone()


def _crc(saves: list[dict[str, Any]]) -> int:
    return zlib.crc32(json.dumps(saves, sort_keys=True).encode())


def _broken(path: Path) -> str:
    return (
        f"{path} is corrupted: it is not the list of files that was saved; restore it from a copy, "
        f"or start again in another run folder"
    )
