"""Decoders to vectors and to dicts of observations."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from worldblocks._wrong_call import described
from worldblocks.decoders.grids import GridDecoder
from worldblocks.decoders.images import ImageDecoder
from worldblocks.distributions import ImageMSE, OneHot, Output, SymlogMSE
from worldblocks.encoders import check_keys, group_shape, image_groups, vectors_of
from worldblocks.encoders.observations import check_own, check_part
from worldblocks.layers import MLP, Linear
from worldblocks.spaces import Continuous, Discrete, Grid, Image, Spaces
from worldblocks.typing import typed


class Parted(Protocol):
    """The part of a state that a decoder reads."""

    def parts(self) -> tuple[Float[Tensor, "*batch deter"], Float[Tensor, "*batch stoch"]]:
        """The deterministic part and the flattened stochastic part."""
        ...


class VectorDecoder(nn.Module):
    """An MLP from the state to vectors, with one linear output map per key.

    Continuous keys are regressed in symlog space (`SymlogMSE`, whose `mean` stays there). Discrete
    keys are categoricals over their classes.

    Args:
        spaces: vector observations by key.
        deter, stoch: widths of the two parts of the state (`stoch` flattened).
        units, layers: width and depth of the MLP.

    Source: the authors' released code of DreamerV3 (3 layers).
    """

    def __init__(
        self, spaces: Spaces, *, deter: int, stoch: int, units: int, layers: int = 3
    ) -> None:
        super().__init__()
        self.spaces = vectors_of("VectorDecoder", spaces)
        self.mlp = MLP(stoch + deter, units=units, layers=layers)
        # A list, because an observation key may be "keys" or "a.b".
        self.outs = nn.ModuleList(Linear(units, space.size) for space in self.spaces.values())

    @typed
    def forward(
        self, deter: Float[Tensor, "*batch deter"], stoch: Float[Tensor, "*batch stoch"]
    ) -> dict[str, Output]:
        """Decode to one output per key."""
        hidden = self.mlp(torch.cat([stoch, deter], -1))
        return {
            key: _vector_output(space, out(hidden))
            for (key, space), out in zip(self.spaces.items(), self.outs, strict=True)
        }


def _vector_output(space: Continuous | Discrete, x: Tensor) -> Output:
    if isinstance(space, Discrete):
        logits = x.reshape(*x.shape[:-1], *space.shape, space.classes)
        return OneHot(logits, event=len(space.shape))
    return SymlogMSE(x.reshape((*x.shape[:-1], *space.shape)), event=len(space.shape))


class Decoded(dict[str, Output]):
    """The outputs of a `MultiDecoder` by key, as one prediction.

    A string index returns the output of that key. Any other index slices the batch axes of all
    outputs.
    """

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return super().__getitem__(index)
        return Decoded({key: output[index] for key, output in self.items()})

    @property
    def mean(self) -> dict[str, Float32[Tensor, "..."]]:
        """The mean of each key."""
        return {key: output.mean for key, output in self.items()}

    def nll(self, obs: Mapping[str, Shaped[Tensor, "..."]]) -> Float32[Tensor, "*batch"]:
        """The sum of the losses of all keys."""
        check_keys("the decoder", self, obs)
        return torch.stack([self[key].nll(target(self[key], obs[key])) for key in self]).sum(0)


def target(output: Output, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """An observation as the target of its output: class indices become one-hots."""
    if isinstance(output, OneHot):
        classes = torch.arange(output.logits.shape[-1], device=value.device)
        return (value.unsqueeze(-1) == classes).float()
    return value


class MultiDecoder(nn.Module):
    """A decoder to observation dicts: one decoder for vectors, the others for images and grids.

    Images of one size are concatenated along channels in sorted key order, as in `MultiEncoder`.

    An image part is a module from the two parts of a state to an output whose `mean` is
    `*batch height width channel` in [0, 1], with the member `channels`.

    Args:
        spaces: all observations by key.
        image: the image part, or None if there are no images. Images of several sizes need a list
            of parts, in the order of `wb.encoders.image_groups(spaces)`.
        vector: decoder of the vectors, or None if there are none.
        grids: decoders of grids by key.

    Raises:
        ValueError: the parts do not fit the spaces.
        TypeError: an image part lacks a member.
    """

    def __init__(
        self,
        spaces: Spaces,
        *,
        image: nn.Module | Sequence[nn.Module] | None = None,
        vector: VectorDecoder | None = None,
        grids: Mapping[str, GridDecoder] | None = None,
    ) -> None:
        super().__init__()
        several = isinstance(image, Sequence)
        parts: list[Any] = [*image] if several else [image] if image is not None else []  # type: ignore[not-iterable]
        groups = image_groups(spaces)
        self.grid_spaces = {k: s for k, s in sorted(spaces.items()) if isinstance(s, Grid)}
        vectors = any(not isinstance(s, Image | Grid) for s in spaces.values())
        if bool(parts) != bool(groups) or (vector is None) == vectors:
            raise ValueError(
                f"MultiDecoder needs an image decoder if and only if there are images, and a "
                f"vector decoder if and only if there are vectors, for {dict(spaces)}"
            )
        if len(parts) != len(groups) or set(grids or {}) != set(self.grid_spaces):
            raise ValueError(
                f"MultiDecoder needs an image decoder for each size of images and a decoder for "
                f"each grid; got {len(parts)} for the images {groups} and {sorted(grids or {})} "
                f"for the grids {sorted(self.grid_spaces)}"
            )
        self.image: Any = nn.ModuleList(parts) if several else image
        self.vector = vector
        # A list, because an observation key may be "keys" or "a.b".
        self.grids = nn.ModuleList(grids[key] for key in self.grid_spaces) if grids else None
        self._groups = [{key: spaces[key].channel for key in group} for group in groups]  # type: ignore[union-attr]
        self._sizes = [group_shape(spaces, group)[0] for group in groups]
        for part, channels in zip(parts, self._groups, strict=True):
            check_part(part, "channels")
            if part.channels != sum(channels.values()):
                raise ValueError(
                    f"the image decoder makes {part.channels} channels, the images have {channels}"
                )

    def forward(self, state: Parted) -> Decoded:
        """Decode a state to one output per key."""
        if not hasattr(state, "parts"):
            raise TypeError(
                f"the decoder takes a state, of which it reads parts(), got {described(state)}; "
                f"give the state of observe or imagine itself, not its feature() or its carry"
            )
        deter, stoch = state.parts()
        outputs = Decoded(self.vector(deter, stoch)) if self.vector is not None else Decoded()
        images = self.image if isinstance(self.image, nn.ModuleList) else [self.image]
        for size, channels, part in zip(self._sizes, self._groups, images, strict=False):
            joined = part(deter, stoch)
            if not isinstance(part, ImageDecoder):
                shape = (*deter.shape[:-1], *size, sum(channels.values()))
                _check_output(part, joined, shape)
            split = [joined]
            if len(channels) > 1:
                split = map(ImageMSE, joined.mean.split(list(channels.values()), -1))
            outputs.update(zip(channels, split, strict=True))
        for key, grid in zip(self.grid_spaces, self.grids or [], strict=True):
            outputs[key] = grid(deter, stoch)
        return outputs


def _check_output(part: nn.Module, output: Any, shape: tuple[int, ...]) -> None:
    """Raise unless an image part of one's own gave an output for images of this shape."""
    mean = getattr(output, "mean", None)
    if not hasattr(output, "nll") or getattr(mean, "shape", None) != shape:
        given = f"a mean of {described(mean)}" if isinstance(mean, Tensor) else described(output)
        raise ValueError(
            f"{type(part).__name__} is used as an image part, and gave {given}; it gives an output "
            f"with nll and a mean of float{list(shape)}, `*batch height width channel`, such as "
            f"wb.distributions.ImageMSE(mean)"
        )


def dreamer_decoder(
    observation: Spaces,
    *,
    deter: int,
    stoch: int,
    depth: int,
    units: int,
    blocks: int = 8,
    strided: bool = False,
    outer: bool = False,
    mults: Sequence[int] | None = None,
    image: nn.Module | None = None,
) -> MultiDecoder:
    """The decoder of DreamerV3 for a dict of observations: images, grids and vectors.

    Args:
        observation: the observations by key.
        deter, stoch: widths of the two parts of the state (`stoch` flattened).
        depth, blocks, strided, outer, mults: as for `ImageDecoder` and `GridDecoder`.
        units: width of the `VectorDecoder` and of `ImageDecoder`'s map of the stochastic part.
        image: an image part of your own for all images, see `MultiDecoder`; they have one size.
    """
    sizes: Any = {"deter": deter, "stoch": stoch, "units": units}
    options: Any = {"depth": depth, "blocks": blocks, "strided": strided}
    options |= {"outer": outer, "mults": mults, **sizes}
    if image is not None:
        check_own(observation, image, "channels")
        parts = [image]
    else:
        parts = [
            ImageDecoder(channels=channels, size=size, **options)
            for size, channels in (
                group_shape(observation, group) for group in image_groups(observation)
            )
        ]
    grids = {
        key: GridDecoder(s, **options)
        for key, s in sorted(observation.items())
        if isinstance(s, Grid)
    }
    vectors = {k: s for k, s in observation.items() if not isinstance(s, Image | Grid)}
    return MultiDecoder(
        observation,
        image=parts[0] if len(parts) == 1 else parts or None,
        vector=VectorDecoder(vectors, **sizes) if vectors else None,
        grids=grids,
    )
