"""Promises of encoders."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from worldblocks.spaces import Discrete, Grid, Image, Space, Spaces
from worldblocks.testing.modules import module
from worldblocks.testing.promise import Names, NotApplicable, Promises, Report, for_all
from worldblocks.testing.promise.compare import (
    SAME,
    expect,
    expect_different,
    expect_equal,
    perturbed,
    steady,
)
from worldblocks.testing.strategies import observations

promise = Promises()
BATCH, TIME = 2, 3
CHANGE = 1e-3  # least relative change of an embedding between two images


class Case(module.ModuleCase):
    """An encoder and its observations."""

    def __init__(self, make: Callable[[], nn.Module], spaces: Spaces, width: int | None) -> None:
        self.make, self.spaces = make, dict(spaces)
        self.module = perturbed(make, amount=0.1)
        self.width = self.module.embed_dim if width is None else width

    def inputs(self, seed: int = 0, *batch: int) -> dict[str, Tensor]:
        """Random observations `batch time ...`."""
        generator, shape = torch.Generator().manual_seed(seed), batch or (BATCH, TIME)
        return {key: draw(space, shape, generator) for key, space in self.spaces.items()}

    def call(self, module: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
        """The embedding."""
        return [module(inputs)]

    def embed(self, obs: dict[str, Tensor]) -> Tensor:
        """The embedding, without a gradient."""
        with steady(), torch.no_grad():
            return self.module(obs)


def draw(space: Space, batch: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random value of a space."""
    shape = (*batch, *space.shape)
    if isinstance(space, Image):
        return torch.randint(256, shape, generator=generator).to(torch.uint8)
    if isinstance(space, Discrete | Grid):
        dtype = torch.uint8 if isinstance(space, Grid) else torch.int64
        return torch.randint(space.classes, shape, generator=generator, dtype=dtype)
    return torch.randn(shape, generator=generator)


@promise("shape", "The embedding is `*batch embed_dim` and finite.", "embed_dim")
def shape(case: Case) -> None:
    def body(obs: dict[str, Tensor]) -> None:
        out = case.embed(obs)
        right = (BATCH, TIME, case.width)
        expect(tuple(out.shape) == right, f"the embedding is {tuple(out.shape)}, expected {right}")
        expect(bool(out.isfinite().all()), "the embedding is not finite")

    for_all(observations(case.spaces, BATCH, TIME), body, share=0.5)


promise.include(module.promise, "axes", "batch")


@promise(
    "every-key",
    "Each number of each observation changes the embedding.",
    "keys that are left out, crops, and one-hots of the wrong width",
)
def every_key(case: Case) -> None:
    obs = case.inputs(0, 1)
    before = case.embed(obs)
    for key, space in case.spaces.items():
        value = obs[key]
        parts = corners(value, space) if isinstance(space, Image) else numbers(value, space)
        for name, changed in parts.items():
            what = f"{name} of {key!r} does not change the embedding"
            expect_different(case.embed({**obs, key: changed}), before, what)


def corners(image: Tensor, space: Image) -> dict[str, Tensor]:
    """Copies of an image with one quarter of one channel inverted, by name."""
    rows, columns = space.height // 2, space.width // 2
    found = {}
    for row in (0, rows):
        for column in (0, columns):
            for channel in range(space.channel):
                changed = image.clone()
                part = (..., slice(row, row + rows), slice(column, column + columns), channel)
                changed[part] = 255 - changed[part]
                found[f"the quarter at row {row}, column {column}, channel {channel}"] = changed
    return found


def numbers(value: Tensor, space: Space) -> dict[str, Tensor]:
    """Copies of a vector with one number changed, by name."""
    found = {}
    for place in range(value[0].numel()):
        changed = value.clone().reshape(1, -1)
        if isinstance(space, Discrete | Grid):
            changed[0, place] = (changed[0, place] + 1) % space.classes
        else:
            changed[0, place] += 0.5
        if not torch.equal(changed.reshape(value.shape), value):
            found[f"number {place}"] = changed.reshape(value.shape)
    return found


@promise(
    "sees-contrast",
    "Two images have different embeddings, whether they are dark, grey or bright.",
    "the scale of pixels: 0 … 255 is mapped once to a range of 1",
)
def sees_contrast(case: Case) -> None:
    images = {key: space for key, space in case.spaces.items() if isinstance(space, Image)}
    if not images:
        raise NotApplicable("no images are observed")
    one, other = case.inputs(0, 1), case.inputs(1, 1)
    for key in images:
        for low, high in ((0, 63), (96, 159), (192, 255)):
            dim = [{**one, key: low + x[key] // 4} for x in (one, other)]
            a, b = (case.embed(obs).double() for obs in dim)
            change = ((a - b).norm() / a.norm().clamp(min=SAME)).item()
            what = f"the embeddings of two images {key!r} with pixels in {low} … {high} differ by "
            expect(change >= CHANGE, f"{what}{change:.2g} (relative; at least {CHANGE})")


promise.include(module.promise, "gradients-reach-parameters", "repeatable", "leaves-inputs-alone")


@promise("order-of-keys", "The order of the keys does not matter.", "sorted() over the keys")
def order_of_keys(case: Case) -> None:
    obs = case.inputs()
    what = "the keys in another order give another embedding"
    reverse = dict(reversed(obs.items()))
    expect_equal(case.embed(reverse), case.embed(obs), what, allowed=0.0)


promise.include(module.promise, "saves", "moves-to-a-device", "bfloat16", "compiles")


@promise.check
def check_encoder(
    make: Callable[[], nn.Module],
    *,
    spaces: Spaces,
    embed_dim: int | None = None,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test an encoder: a module from observations by key to an embedding `*batch embed`.

    Args:
        make: returns a new encoder. Wrap an encoder that takes a tensor instead of a dict.
        spaces: the observations by key.
        embed_dim: width of the embedding; by default the module's own `embed_dim`.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(make, spaces, embed_dim), make, only, skip)
