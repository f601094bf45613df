"""The recorded arrays of the official code: files of arrays with dotted names."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor


class Arrays(Mapping[str, np.ndarray]):
    """Arrays by name. A name is a dotted path; `at("seq.carry")` are those below a path.

    Every view of a file notes which of its arrays were looked up, see `unread`.
    """

    def __init__(self, data: Mapping[str, np.ndarray], *, name: str = "") -> None:
        self.name = name
        self._data, self._prefix = data, ""
        self._read: set[str] = set()

    @classmethod
    def load(cls, path: Path) -> "Arrays":
        """The arrays of an `.npz` file."""
        with np.load(path) as file:
            return cls({name: file[name] for name in file.files}, name=path.stem)

    def at(self, path: str) -> "Arrays":
        """The arrays whose name starts with `path.`, by the rest of it."""
        view = Arrays(self._data, name=self.name)
        view._prefix, view._read = f"{self._prefix}{path}.", self._read
        return view

    def parts(self) -> list[str]:
        """The different first components of the names, in the order of the file."""
        return list(dict.fromkeys(name.split(".")[0] for name in self))

    def tensor(self, name: str) -> Shaped[Tensor, "..."]:
        """An array as a tensor on the default device."""
        return torch.from_numpy(np.array(self[name])).to(torch.get_default_device())

    def number(self, name: str) -> float:
        """An array of one element as a number."""
        return float(self[name].item())

    def unread(self) -> list[str]:
        """Names below this path that were never looked up, through any view."""
        return [name for name in self if self._prefix + name not in self._read]

    def __getitem__(self, name: str) -> np.ndarray:
        full = self._prefix + name
        if full not in self._data:
            raise KeyError(f"{self.name} has no array {full}")
        self._read.add(full)
        return self._data[full]

    def __contains__(self, name: object) -> bool:
        return self._prefix + str(name) in self._data

    def __iter__(self) -> Iterator[str]:
        skip = len(self._prefix)
        return (name[skip:] for name in self._data if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
