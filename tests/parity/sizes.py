"""Sizes of blocks, read from the shapes of their recorded parameters."""

import re
from collections.abc import Iterable, Mapping
from math import isqrt, prod
from typing import Any

import numpy as np

from parity.arrays import Arrays
from worldblocks.spaces import Actions, Continuous, Discrete, Image, Spaces

Parameters = Mapping[str, np.ndarray]


def count(params: Iterable[str], pattern: str) -> int:
    """How many numbers stand for {} in names that contain `pattern`, such as `dyn/prior{}/`."""
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
    """Arguments of `wb.rssm.dreamer_rssm`; `stoch` is any array that ends in `groups classes`."""
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
    """What actions are made of: integers are indices. `size` is the width of their flat vector.

    One index alone takes the classes that are left of `size`; of several the recorded indices have
    to show them.
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
    """What observations are made of; a decoder's logits tell the classes of an index."""
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
    """What `ImageEncoder` and `ImageDecoder` have in common, from the parameters of the decoder.

    The first stage keeps the full resolution (`outer`) if the sides of the smallest feature map
    say so. Whether stages are strided cannot be seen in shapes.
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


def subset(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Arrays whose name starts with a prefix, by their whole name."""
    return {name: arrays[name] for name in arrays if name.startswith(prefix)}
