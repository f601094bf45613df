"""The recorded arrays of the official code, and the sizes of blocks read from their shapes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from math import isqrt, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from worldblocks.spaces import Actions, Continuous, Discrete, Image, Spaces


class Arrays(Mapping[str, np.ndarray]):
    """Arrays by name. A name is a dotted path; `at("seq.carry")` gives the arrays below a path.

    All views of a file share a list of the arrays that were looked up, see `unread`.
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
        """The arrays whose name starts with `path.`, by the rest of their name."""
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
        """Names below this path that no view has looked up."""
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


Parameters = Mapping[str, np.ndarray]


def count(params: Iterable[str], pattern: str) -> int:
    """The number of integers that occur for {} in names such as `dyn/prior{}/`."""
    found = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
    return len({match[1] for name in params if (match := found.search(name))})


def core_sizes(params: Parameters, scope: str) -> dict[str, int]:
    """Arguments of `wb.rssm.BlockGRU`."""
    deter, hidden = params[f"{scope}/dynin0/kernel"].shape
    return {
        "deter": deter,
        "hidden": hidden,
        "stoch": params[f"{scope}/dynin1/kernel"].shape[0],
        "action_dim": params[f"{scope}/dynin2/kernel"].shape[0],
        "blocks": params[f"{scope}/dyngru/kernel"].shape[0],
        "layers": count(params, f"{scope}/dynhid{{}}/"),
    }


def rssm_sizes(params: Parameters, scope: str, *, stoch: np.ndarray, embed: int) -> dict[str, Any]:
    """Arguments of `wb.rssm.dreamer_rssm`; `stoch` is any array with last axes `groups classes`."""
    core = core_sizes(params, scope)
    return {
        "embed_dim": embed,
        "action_dim": core["action_dim"],
        "deter": core["deter"],
        "hidden": core["hidden"],
        "groups": stoch.shape[-2],
        "classes": stoch.shape[-1],
        "blocks": core["blocks"],
        "core_layers": core["layers"],
        "prior_layers": count(params, f"{scope}/prior{{}}/"),
        "posterior_layers": count(params, f"{scope}/obs{{}}/"),
        "absolute": params[f"{scope}/obs0/kernel"].shape[0] == embed,
    }


def action_spaces(actions: Mapping[str, np.ndarray], size: int, batch_axes: int) -> Actions:
    """Action spaces; integer arrays are indices. `size` is the width of the flat action vector.

    The last discrete key gets the rest of `size` as classes. The classes of the others are read
    from the recorded indices.
    """
    spaces: dict[str, Continuous | Discrete] = {}
    for key, array in sorted(actions.items()):
        shape = array.shape[batch_axes:]
        if array.dtype.kind == "f":
            spaces[key] = Continuous(shape)
        else:
            spaces[key] = Discrete(int(array.max()) + 1, shape)
    discrete = [key for key, space in spaces.items() if isinstance(space, Discrete)]
    if discrete:
        rest = size - sum(space.size for key, space in spaces.items() if key != discrete[-1])
        shape = spaces[discrete[-1]].shape
        spaces[discrete[-1]] = Discrete(rest // prod(shape), shape)
    return spaces


def observation_spaces(
    obs: Mapping[str, np.ndarray], decoder: Parameters, scope: str, batch_axes: int
) -> Spaces:
    """Observation spaces; the decoder's logits give the number of classes of an index."""
    spaces: dict[str, Image | Continuous | Discrete] = {}
    for key, array in obs.items():
        shape = array.shape[batch_axes:]
        if array.dtype == np.uint8 and len(shape) == 3:
            spaces[key] = Image(*shape)
        elif array.dtype.kind == "f":
            spaces[key] = Continuous(shape)
        else:
            logits = decoder[f"{scope}/vec/{key}/logits/bias"].size
            spaces[key] = Discrete(logits // prod(shape), shape)
    return spaces


def image_sizes(params: Parameters, scope: str, spaces: Spaces, *, strided: bool) -> dict[str, Any]:
    """Common arguments of `ImageEncoder` and `ImageDecoder`, from the decoder's parameters.

    The side of the smallest feature map shows whether the first stage keeps the full resolution
    (`outer`). Shapes do not show whether stages are strided.
    """
    images = [space for space in spaces.values() if isinstance(space, Image)]
    stages = count(params, f"{scope}/conv{{}}/")
    widths = [params[f"{scope}/conv{i}/bias"].size for i in range(stages)]
    widths.append(params[f"{scope}/spnorm/scale"].size)
    side = isqrt(params[f"{scope}/sp0/bias"].size // widths[-1])
    return {
        "channels": sum(image.channel for image in images),
        "size": images[0].height,
        "depth": 1,
        "mults": tuple(widths),
        "strided": strided,
        "outer": images[0].height == side * 2 ** (len(widths) - 1),
    }
