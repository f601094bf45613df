"""What an encoder promises."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from worldblocks.spaces import Image, Spaces
from worldblocks.testing.modules import module as modules
from worldblocks.testing.promise import Names, NotHere, Promises, Report, for_all
from worldblocks.testing.promise.compare import (
    SAME,
    expect,
    expect_different,
    expect_equal,
    steady,
    stirred,
)
from worldblocks.testing.strategies import observations

promise = Promises()
BATCH, TIME = 2, 3
DRIFT = 0.05  # under autocast to bfloat16
SEEN = 1e-3  # change of an embedding, relative, that another image makes at least


class Case:
    """An encoder and what it reads."""

    def __init__(self, make: Callable[[], nn.Module], spaces: Spaces, width: int | None) -> None:
        self.make, self.spaces = make, dict(spaces)
        self.module = stirred(make, amount=0.1)
        self.width = self.module.embed_dim if width is None else width

    def obs(self, seed: int = 0, *batch: int) -> dict[str, Tensor]:
        """Random observations of a seed, `batch time ...`."""
        generator, shape = torch.Generator().manual_seed(seed), batch or (BATCH, TIME)
        return {key: draw(space, shape, generator) for key, space in self.spaces.items()}

    def call(self, module: Any, obs: dict[str, Tensor]) -> list[Tensor]:
        """The embedding."""
        return [module(obs)]

    def embed(self, obs: dict[str, Tensor]) -> Tensor:
        """The embedding, without a gradient."""
        with steady(), torch.no_grad():
            return self.module(obs)


def draw(space: Any, batch: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A random value of a space."""
    shape = (*batch, *space.shape)
    if isinstance(space, Image):
        return torch.randint(256, shape, generator=generator).to(torch.uint8)
    if hasattr(space, "classes"):
        return torch.randint(space.classes, shape, generator=generator)
    return torch.randn(shape, generator=generator)


@promise("shape", "The embedding has the batch axes and `embed_dim` numbers, finite.", "embed_dim")
def shape(case: Case) -> None:
    def body(obs: dict[str, Tensor]) -> None:
        out = case.embed(obs)
        told = (BATCH, TIME, case.width)
        expect(tuple(out.shape) == told, f"the embedding has shape {tuple(out.shape)}, not {told}")
        expect(bool(out.isfinite().all()), "the embedding is not finite")

    for_all(observations(case.spaces, BATCH, TIME), body, share=0.5)


@promise("axes", "Batch axes are free, and each row is encoded alone.", "reshapes")
def axes(case: Case) -> None:
    modules.expect_axes(case.module, case.obs(), case.call)


@promise("batch", "Elements of a batch do not see each other.", "norms over the batch axis")
def batch(case: Case) -> None:
    modules.expect_batch(case.module, case.obs(), case.obs(1), case.call)


@promise(
    "every-key",
    "Each observation changes the embedding, and so does each of its numbers.",
    "keys that are left out, crops, and one-hots of the wrong width",
)
def every_key(case: Case) -> None:
    obs = case.obs(0, 1)
    before = case.embed(obs)
    for key, space in case.spaces.items():
        parts = (corners if isinstance(space, Image) else numbers)(obs[key], space)  # type: ignore[arg-type]
        for name, changed in parts.items():
            what = f"{name} of {key!r} does not change the embedding"
            expect_different(case.embed({**obs, key: changed}), before, what)


def corners(image: Tensor, space: Image) -> dict[str, Tensor]:
    """The image with one quarter of a channel inverted, by name."""
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


def numbers(value: Tensor, space: Any) -> dict[str, Tensor]:
    """The vector with one number changed, by name."""
    found = {}
    for place in range(value[0].numel()):
        changed = value.clone().reshape(1, -1)
        changed[0, place] = (
            (changed[0, place] + 1) % space.classes
            if hasattr(space, "classes")
            else changed[0, place] + 0.5
        )
        if not torch.equal(changed.reshape(value.shape), value):
            found[f"number {place}"] = changed.reshape(value.shape)
    return found


@promise(
    "sees-contrast",
    "Two images differ in the embedding whether dark, grey or bright.",
    "the scale of pixels: once from 0…255 to a range of 1",
)
def sees_contrast(case: Case) -> None:
    images = {key: space for key, space in case.spaces.items() if isinstance(space, Image)}
    if not images:
        raise NotHere("no images are observed")
    one, other = case.obs(0, 1), case.obs(1, 1)
    for key in images:
        for low, high in ((0, 63), (96, 159), (192, 255)):
            dim = [{**one, key: low + x[key] // 4} for x in (one, other)]
            a, b = (case.embed(obs).double() for obs in dim)
            change = ((a - b).norm() / a.norm().clamp(min=SAME)).item()
            what = f"two images {key!r} with pixels in {low} … {high} change the embedding by a "
            expect(change >= SEEN, f"{what}share of {change:.2g} (at least {SEEN} is kept)")


@promise("gradients-reach-parameters", "The embedding trains every parameter.", "no_grad()")
def gradients_reach_parameters(case: Case) -> None:
    modules.expect_trained(case.module, case.obs(), case.call)


@promise("repeatable", "In evaluation a call depends on its input alone.", "dropout, batch norm")
def repeatable(case: Case) -> None:
    modules.expect_repeatable(case.module, case.obs(), case.call)


@promise("leaves-inputs-alone", "Nothing is written into the observation.", "operations in place")
def leaves_inputs_alone(case: Case) -> None:
    modules.expect_quiet(case.module, case.obs(), case.call)


@promise("order-of-keys", "The order of the keys does not matter.", "sorted() over the keys")
def order_of_keys(case: Case) -> None:
    obs = case.obs()
    turned = dict(reversed(obs.items()))
    what = "the keys in another order give another embedding"
    expect_equal(case.embed(turned), case.embed(obs), what, allowed=0.0)


@promise("saves", "An encoder that loads the state dict of another is the other.", "buffers")
def saves(case: Case) -> None:
    modules.expect_saved(case.make, case.obs(), case.call)


@promise("moves-to-a-device", "On another device all is computed there.", "plain attributes")
def moves_to_a_device(case: Case) -> None:
    modules.expect_moves(case.make, case.obs(), case.call)


@promise("bfloat16", f"Under autocast the embedding drifts by at most {DRIFT}.", "norms in float32")
def bfloat16(case: Case) -> None:
    modules.expect_bfloat16(case.module, case.obs(), case.call, DRIFT)


@promise("compiles", "One graph, with the values of eager mode.", "Python branches on values")
def compiles(case: Case) -> None:
    modules.expect_graph(case.module, case.obs(), case.call)


@promise.of
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
        make: gives a new encoder. One that takes a tensor instead of a dict goes in with a line
            around it.
        spaces: the observations by key.
        embed_dim: width of the embedding; by default the module's own `embed_dim`.
        only, skip: names of promises that alone are tested, or are not.

    Raises:
        BrokenPromise: names each promise that is broken, and says how.
    """
    return promise.keep(Case(make, spaces, embed_dim), make, only, skip)
