"""Decoders to vectors and to dicts of observations."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from worldblocks._wrong_call import described
from worldblocks.decoders.images import ImageDecoder
from worldblocks.distributions import ImageMSE, OneHot, Output, SymlogMSE
from worldblocks.encoders import check_keys, images_of, vectors_of
from worldblocks.layers import MLP, Linear
from worldblocks.spaces import Continuous, Discrete, Image, Spaces, check_spaces
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
    """A decoder to observation dicts, with one decoder for vectors and one for images.

    Images are concatenated along channels in sorted key order, as in `MultiEncoder`.

    Args:
        spaces: all observations by key.
        image: decoder of the concatenated images, or None if there are none.
        vector: decoder of the vectors, or None if there are none.
    """

    def __init__(
        self,
        spaces: Spaces,
        *,
        image: ImageDecoder | None = None,
        vector: VectorDecoder | None = None,
    ) -> None:
        super().__init__()
        check_spaces("MultiDecoder", spaces)
        images = {key: spaces[key] for key in sorted(spaces) if isinstance(spaces[key], Image)}
        if (image is None) == bool(images) or (vector is None) == (len(images) < len(spaces)):
            raise ValueError(
                f"MultiDecoder needs an image decoder if and only if there are images, and a "
                f"vector decoder if and only if there are vectors, for {dict(spaces)}"
            )
        self.image, self.vector = image, vector
        self.channels = {key: space.channel for key, space in images.items()}  # type: ignore[union-attr]
        if image is not None and image.channels != sum(self.channels.values()):
            raise ValueError(
                f"the image decoder makes {image.channels} channels, the images have "
                f"{self.channels}"
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
        if self.image is not None:
            images = self.image(deter, stoch)
            parts = [images]
            if len(self.channels) > 1:
                parts = map(ImageMSE, images.mean.split(list(self.channels.values()), -1))
            outputs.update(zip(self.channels, parts, strict=True))
        return outputs


def dreamer_decoder(
    observation: Spaces,
    *,
    deter: int,
    stoch: int,
    depth: int,
    units: int,
    blocks: int = 8,
    strided: bool = False,
) -> MultiDecoder:
    """The decoder of DreamerV3 for a dict of observations: images, vectors or both."""
    images = images_of(observation)
    vectors = {key: space for key, space in observation.items() if key not in images}
    image = vector = None
    if images:
        image = ImageDecoder(
            deter=deter,
            stoch=stoch,
            channels=sum(space.channel for space in images.values()),
            size=next(iter(images.values())).height,
            depth=depth,
            units=units,
            blocks=blocks,
            strided=strided,
        )
    if vectors:
        vector = VectorDecoder(vectors, deter=deter, stoch=stoch, units=units)
    return MultiDecoder(observation, image=image, vector=vector)
