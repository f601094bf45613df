"""The encoder of vectors."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldblocks._wrong_call import as_tensor, described, did_you_mean
from worldblocks.layers import MLP
from worldblocks.spaces import Continuous, Discrete, Grid, Image, Spaces, check_spaces
from worldblocks.transforms import symlog
from worldblocks.typing import placed


class VectorEncoder(nn.Module):
    """An MLP over vectors: symlog of continuous keys, one-hots of discrete keys.

    The keys are concatenated in sorted order.

    Args:
        spaces: vector observations by key.
        units, layers: width and depth of the MLP.

    Source: the authors' released code of DreamerV3 (3 layers).
    """

    def __init__(self, spaces: Spaces, *, units: int, layers: int = 3) -> None:
        super().__init__()
        self.spaces = vectors_of("VectorEncoder", spaces)
        size = sum(space.size for space in self.spaces.values())
        self.mlp = MLP(size, units=units, layers=layers)
        self.embed_dim = units

    @placed
    def forward(self, obs: Mapping[str, Shaped[Tensor, "..."]]) -> Float[Tensor, "*batch embed"]:
        """Encode a dict of `*batch *shape` tensors."""
        check_keys("VectorEncoder", self.spaces, obs)
        check_tensors(obs)
        parts = [_vector(key, space, obs[key]) for key, space in self.spaces.items()]
        check_batch(obs, [part.shape[:-1] for part in parts])
        return self.mlp(torch.cat(parts, -1).to(self.mlp[0].linear.weight.dtype))  # type: ignore[union-attr,arg-type]


def vectors_of(name: str, spaces: Spaces) -> dict[str, Continuous | Discrete]:
    """The spaces in sorted key order. Raises if there are none, or an image or a grid."""
    check_spaces(name, spaces)
    vectors = {key: s for key, s in sorted(spaces.items()) if not isinstance(s, Image | Grid)}
    if len(vectors) < len(spaces) or not spaces:
        images = sorted(set(spaces) - set(vectors))
        what = f"the images {images}" if images else "none"
        raise ValueError(f"{name} takes vector observations only, got {what}")
    return vectors


def _vector(key: str, space: Continuous | Discrete, value: Tensor) -> Tensor:
    """An observation as a flat float vector `*batch size`."""
    axes = len(space.shape)
    batch, event = value.shape[: value.ndim - axes], value.shape[value.ndim - axes :]
    discrete = isinstance(space, Discrete)
    if event != space.shape or value.is_floating_point() == discrete:
        kind = "integers" if discrete else "floats"
        raise ValueError(
            f"observation {key!r} should be {kind} of shape {('*batch', *space.shape)}, got "
            f"{value.dtype} of shape {tuple(value.shape)}"
        )
    if isinstance(space, Discrete):
        one_hot = value.unsqueeze(-1) == torch.arange(space.classes, device=value.device)
        return one_hot.float().reshape(*batch, space.size)
    return symlog(value.float()).reshape(*batch, space.size)


def check_batch(obs: Mapping[str, Tensor], axes: Sequence[torch.Size]) -> None:
    """Raise unless all observations have the same batch axes."""
    if any(shape != axes[0] for shape in axes):
        shapes = {key: tuple(value.shape) for key, value in sorted(obs.items())}
        raise ValueError(f"observations must have the same batch axes, got the shapes {shapes}")


def check_keys(name: str, expected: Mapping[str, object] | Sequence[str], given: Mapping) -> None:
    """Raise unless the keys are exactly the expected ones."""
    if not isinstance(given, Mapping):
        key = next(iter(expected), "image")
        raise TypeError(
            f"{name} takes a dict of observations by key, {sorted(expected)}, got "
            f"{described(given)}; give {{{key!r}: x}}"
        )
    missing, extra = (sorted(set(a) - set(b)) for a, b in ((expected, given), (given, expected)))
    if missing or extra:
        near = did_you_mean(extra[0], missing) if extra else ""
        raise KeyError(
            f"{name} takes the observations {sorted(expected)}, got {sorted(given)}: "
            f"missing {missing}, unexpected {extra}{near}"
        )


def check_tensors(obs: Mapping[str, object]) -> None:
    """Raise unless all observations are tensors."""
    for key, value in obs.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"observation {key!r} should be a tensor, got {described(value)}; "
                f"{as_tensor(value, 'x')}"
            )
