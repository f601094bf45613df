"""Encoders of vectors and of dicts of observations."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldblocks._wrong_call import as_tensor, described, did_you_mean
from worldblocks.encoders.gaussian import GaussianEncoder
from worldblocks.encoders.images import ImageEncoder
from worldblocks.layers import MLP
from worldblocks.spaces import Continuous, Discrete, Image, Spaces, check_spaces
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
        _check_batch(obs, [part.shape[:-1] for part in parts])
        return self.mlp(torch.cat(parts, -1).to(self.mlp[0].linear.weight.dtype))  # type: ignore[union-attr,arg-type]


def vectors_of(name: str, spaces: Spaces) -> dict[str, Continuous | Discrete]:
    """The spaces in sorted key order. Raises if there are none, or an image."""
    check_spaces(name, spaces)
    vectors = {key: s for key, s in sorted(spaces.items()) if not isinstance(s, Image)}
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


class MultiEncoder(nn.Module):
    """An encoder of observation dicts, with one encoder for vectors and one for images.

    Images are concatenated along channels in sorted key order. The embedding is the vector part,
    then the image part.

    Args:
        image: encoder of the concatenated images, or None if there are none.
        vector: encoder of the vectors, or None if there are none.
        image_keys: keys of the images.
    """

    def __init__(
        self,
        *,
        image: ImageEncoder | GaussianEncoder | None = None,
        vector: VectorEncoder | None = None,
        image_keys: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if (image is None) == bool(image_keys) or (image is None and vector is None):
            raise ValueError(
                f"MultiEncoder needs an image encoder if and only if there are image keys, and at "
                f"least one encoder; got image_keys={list(image_keys)}"
            )
        self.image, self.vector = image, vector
        self.image_keys = sorted(image_keys)
        self.keys = [*self.image_keys, *(vector.spaces if vector else [])]
        self.embed_dim = sum(part.embed_dim for part in (image, vector) if part is not None)

    @placed
    def forward(self, obs: Mapping[str, Shaped[Tensor, "..."]]) -> Float[Tensor, "*batch embed"]:
        """Encode a dict of observations with exactly the keys of the constructor."""
        check_keys("MultiEncoder", self.keys, obs)
        check_tensors(obs)
        parts = []
        if self.vector is not None:
            parts.append(self.vector({key: obs[key] for key in self.vector.spaces}))
        if self.image is not None:
            images = [self._image(key, obs[key]) for key in self.image_keys]
            _check_batch(obs, [image.shape[:-1] for image in images])
            parts.append(self.image(torch.cat(images, -1)))
        _check_batch(obs, [part.shape[:-1] for part in parts])
        return torch.cat(parts, -1)

    def _image(self, key: str, value: Tensor) -> Tensor:
        size = self.image.size  # type: ignore[union-attr]
        if value.dtype != torch.uint8 or value.shape[-3:-1] != (size, size):
            raise ValueError(
                f"observation {key!r} should be a uint8 image of shape (*batch, {size}, {size}, "
                f"channel), got {value.dtype} of shape {tuple(value.shape)}"
            )
        return value


def _check_batch(obs: Mapping[str, Tensor], axes: Sequence[torch.Size]) -> None:
    if any(shape != axes[0] for shape in axes):
        shapes = {key: tuple(value.shape) for key, value in sorted(obs.items())}
        raise ValueError(f"observations must have the same batch axes, got the shapes {shapes}")


def dreamer_encoder(
    observation: Spaces, *, depth: int, units: int, strided: bool = False
) -> MultiEncoder:
    """The encoder of DreamerV3 for a dict of observations: images, vectors or both.

    >>> observation = {"image": Image(64, 64, 3), "speed": Continuous()}
    >>> dreamer_encoder(observation, depth=4, units=8).embed_dim
    264
    """
    images = images_of(observation)
    vectors = {key: space for key, space in observation.items() if key not in images}
    image = None
    if images:
        channels = sum(space.channel for space in images.values())
        size = next(iter(images.values())).height
        image = ImageEncoder(channels=channels, size=size, depth=depth, strided=strided)
    vector = VectorEncoder(vectors, units=units) if vectors else None
    return MultiEncoder(image=image, vector=vector, image_keys=list(images))


def images_of(observation: Spaces) -> dict[str, Image]:
    """The images in sorted key order. Raises unless all are square and of one size."""
    check_spaces("an encoder or a decoder", observation)
    images = {key: s for key, s in sorted(observation.items()) if isinstance(s, Image)}
    if len({side for space in images.values() for side in (space.height, space.width)}) > 1:
        raise ValueError(f"all images must be square and of one size, got {images}")
    return images


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
