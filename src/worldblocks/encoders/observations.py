"""Encoders of dicts of observations."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from worldblocks._wrong_call import described
from worldblocks.encoders.grids import GridEncoder
from worldblocks.encoders.images import ImageEncoder, both_sides
from worldblocks.encoders.vectors import VectorEncoder, check_batch, check_keys, check_tensors
from worldblocks.spaces import Grid, Image, Spaces, check_spaces
from worldblocks.typing import placed


class MultiEncoder(nn.Module):
    """An encoder of observation dicts: one encoder for vectors, the others for images and grids.

    Images that share an encoder are concatenated along channels in sorted key order. The embedding
    is the vector part, then those of the images, then those of the grids.

    An image part is a module from uint8 images `*batch height width channel` to an embedding
    `*batch embed`, with the members `size` (the side of a square, or (height, width)), `channels`
    and `embed_dim`.

    Args:
        image: the image part, or None if there are no images. Images of several sizes need a list
            of parts.
        vector: encoder of the vectors, or None if there are none.
        image_keys: keys of the images; with a list of parts, a list of keys for each.
        grids: encoders of grids by key.

    Attributes:
        keys: all keys; `image_keys` and `grid_keys` those of images and of grids, and
            `picture_keys` both, which a video can show.
        embed_dim: width of the embedding.

    Raises:
        ValueError: parts and keys do not fit together.
        TypeError: an image part lacks a member.
    """

    def __init__(
        self,
        *,
        image: nn.Module | Sequence[nn.Module] | None = None,
        vector: VectorEncoder | None = None,
        image_keys: Sequence[str] | Sequence[Sequence[str]] = (),
        grids: Mapping[str, GridEncoder] | None = None,
    ) -> None:
        super().__init__()
        several = isinstance(image, Sequence)
        parts: list[Any] = [*image] if several else [image] if image is not None else []  # type: ignore[not-iterable]
        groups: list[Any] = [*image_keys] if several else [image_keys] if image_keys else []
        if len(parts) != len(groups) or not all(groups) or not (parts or vector or grids):
            raise ValueError(
                f"MultiEncoder needs an image encoder if and only if there are image keys, and at "
                f"least one encoder; got image_keys={list(image_keys)} for {len(parts)} image "
                f"encoders"
            )
        for part in parts:
            check_part(part, "size", "channels", "embed_dim")
        self.image: Any = nn.ModuleList(parts) if several else image
        self.vector = vector
        self._groups: list[list[str]] = [sorted(group) for group in groups]
        self.image_keys = sorted(key for group in self._groups for key in group)
        self.grid_keys = sorted(grids or {})
        # A list, because an observation key may be "keys" or "a.b".
        self.grids = nn.ModuleList(grids[key] for key in self.grid_keys) if grids else None
        self.picture_keys = sorted([*self.image_keys, *self.grid_keys])
        self.keys = [*self.image_keys, *self.grid_keys, *(vector.spaces if vector else [])]
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"MultiEncoder got one key for two encoders: {sorted(self.keys)}")
        parts += [*([vector] if vector else []), *(self.grids or [])]
        self.embed_dim = sum(part.embed_dim for part in parts)

    @placed
    def forward(self, obs: Mapping[str, Shaped[Tensor, "..."]]) -> Float[Tensor, "*batch embed"]:
        """Encode a dict of observations with exactly the keys of the constructor."""
        check_keys("MultiEncoder", self.keys, obs)
        check_tensors(obs)
        parts = []
        if self.vector is not None:
            parts.append(self.vector({key: obs[key] for key in self.vector.spaces}))
        for keys, part in zip(self._groups, self._image_parts(), strict=True):
            images = [_image(key, obs[key], part) for key in keys]
            check_batch(obs, [image.shape[:-1] for image in images])
            embed, shape = part(torch.cat(images, -1)), (*images[0].shape[:-3], part.embed_dim)
            if getattr(embed, "shape", None) != shape:
                raise ValueError(
                    f"{type(part).__name__} is used as an image part, and gave {described(embed)} "
                    f"for the images {keys}; it gives float{list(shape)}, `*batch embed`, for its "
                    f"embed_dim={part.embed_dim}"
                )
            parts.append(embed)
        for key, grid in zip(self.grid_keys, self.grids or [], strict=True):
            parts.append(grid(obs[key]))
        check_batch(obs, [part.shape[:-1] for part in parts])
        return torch.cat(parts, -1)

    def _image_parts(self) -> list[Any]:
        if isinstance(self.image, nn.ModuleList):
            return list(self.image)
        return [] if self.image is None else [self.image]


def check_part(part: Any, *members: str) -> None:
    """Raise unless an image part of one's own is a module with the members that are read."""
    if not isinstance(part, nn.Module):
        given = f"the class {part.__name__}" if isinstance(part, type) else described(part)
        raise TypeError(f"an image part is an nn.Module, got {given}; give an instance of one")
    missing = [name for name in members if not hasattr(part, name)]
    if missing:
        raise TypeError(
            f"{type(part).__name__} is used as an image part and has no {', '.join(missing)}; an "
            f"image part has the members {', '.join(members)}: set them in its __init__ (size is "
            f"the side of a square image, or (height, width))"
        )
    if "size" in members:
        size: Any = part.size
        both_sides(size)
    for name in set(members) - {"size"}:
        value = getattr(part, name)
        if not isinstance(value, Integral) or value < 1:
            raise TypeError(
                f"{type(part).__name__} is used as an image part with {name}={value!r}; {name} is "
                f"a whole number from 1 up"
            )


def _image(key: str, value: Tensor, part: Any) -> Tensor:
    height, width = both_sides(part.size)
    if value.dtype != torch.uint8 or value.shape[-3:-1] != (height, width):
        raise ValueError(
            f"observation {key!r} should be a uint8 image of shape (*batch, {height}, {width}, "
            f"channel), got {value.dtype} of shape {tuple(value.shape)}"
        )
    return value


def dreamer_encoder(
    observation: Spaces,
    *,
    depth: int,
    units: int,
    strided: bool = False,
    outer: bool = False,
    mults: Sequence[int] | None = None,
    image: nn.Module | None = None,
) -> MultiEncoder:
    """The encoder of DreamerV3 for a dict of observations: images, grids and vectors.

    Args:
        observation: the observations by key.
        depth, strided, outer, mults: as for `ImageEncoder` and `GridEncoder`.
        units: width of the `VectorEncoder`.
        image: an image part of your own for all images, see `MultiEncoder`; they have one size.

    >>> from worldblocks.spaces import Continuous
    >>> observation = {"image": Image(64, 64, 3), "speed": Continuous()}
    >>> dreamer_encoder(observation, depth=4, units=8).embed_dim
    264
    """
    options: Any = {"depth": depth, "strided": strided, "outer": outer, "mults": mults}
    groups = image_groups(observation)
    if image is not None:
        check_own(observation, image, "size", "channels", "embed_dim")
        parts = [image]
    else:
        parts = [
            ImageEncoder(channels=channels, size=size, **options)
            for size, channels in (group_shape(observation, group) for group in groups)
        ]
    grids = {
        key: GridEncoder(s, **options)
        for key, s in sorted(observation.items())
        if isinstance(s, Grid)
    }
    vectors = {k: s for k, s in observation.items() if not isinstance(s, Image | Grid)}
    one = len(parts) == 1  # then its parameters are `image.…`, else `image.0.…`
    return MultiEncoder(
        image=parts[0] if one else parts or None,
        vector=VectorEncoder(vectors, units=units) if vectors else None,
        image_keys=groups[0] if one else groups,
        grids=grids,
    )


def images_of(observation: Spaces) -> dict[str, Image]:
    """The images in sorted key order."""
    check_spaces("an encoder or a decoder", observation)
    return {key: s for key, s in sorted(observation.items()) if isinstance(s, Image)}


def image_groups(observation: Spaces) -> list[list[str]]:
    """The keys of the images, those of one height and width together, all in sorted order.

    >>> front, wrist = Image(96, 64, 3), Image(32, 32, 3)
    >>> image_groups({"left": front, "right": front, "wrist": wrist})
    [['left', 'right'], ['wrist']]
    """
    groups: dict[tuple[int, int], list[str]] = {}
    for key, space in images_of(observation).items():
        groups.setdefault((space.height, space.width), []).append(key)
    return list(groups.values())


def group_shape(observation: Spaces, group: Sequence[str]) -> tuple[tuple[int, int], int]:
    """The size and the number of channels of images that are joined by channel."""
    images = [images_of(observation)[key] for key in group]
    return (images[0].height, images[0].width), sum(image.channel for image in images)


def check_own(observation: Spaces, part: Any, *members: str) -> None:
    """Raise unless a part of one's own fits the images of these observations."""
    check_part(part, *members)
    shapes = [group_shape(observation, group) for group in image_groups(observation)]
    own = both_sides(part.size) if "size" in members else None
    fits = [channels == part.channels and own in (None, size) for size, channels in shapes]
    if fits != [True]:
        takes = f"{own[0]}×{own[1]}×{part.channels}" if own else f"{part.channels} channels"
        raise ValueError(
            f"one image part of your own is for images of one size, joined by channel; "
            f"{type(part).__name__} is for {takes}, the images are {images_of(observation)}; "
            f"for several sizes give MultiEncoder and MultiDecoder a list of parts"
        )
