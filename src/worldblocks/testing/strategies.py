"""Hypothesis strategies for the inputs of blocks."""

import functools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from worldblocks.replay import Batch
from worldblocks.spaces import Actions, Continuous, Discrete, Grid, Image, Space, Spaces
from worldblocks.testing.episodes import Trajectory, hypothesis_strategies, trajectories

MAGNITUDES = (0.0, 1e-30, 1e-8, 1e-3, 1.0, 30.0, 1e3, 1e8, 1e30)


def images(space: Image, *batch: int) -> Any:
    """uint8 images `*batch height width channel`: black, white, one bright pixel, noise."""
    st = hypothesis_strategies("images")
    return st.builds(
        functools.partial(_image, (*batch, *space.shape)),
        st.sampled_from(["black", "white", "pixel", "noise"]),
        st.integers(0, 9),
    )


def _image(shape: tuple[int, ...], kind: str, seed: int) -> Shaped[Tensor, "..."]:
    if kind in ("black", "white"):
        return torch.full(shape, 255 * (kind == "white"), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(256, shape, generator=generator).to(torch.uint8)
    if kind == "noise":
        return noise
    single = torch.zeros(shape, dtype=torch.uint8)
    single.flatten()[int(torch.randint(single.numel(), (), generator=generator))] = 255
    return single


def vectors(*shape: int, magnitudes: tuple[float, ...] = MAGNITUDES) -> Any:
    """float32 tensors of a shape: normal numbers times a magnitude, 0 or 1e-30 to 1e30."""
    st = hypothesis_strategies("vectors")

    def build(magnitude: float, seed: int) -> Shaped[Tensor, "..."]:
        return magnitude * torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return st.builds(build, st.sampled_from(magnitudes), st.integers(0, 9))


def parameters(*shape: int) -> Any:
    """Raw parameters of distributions, of a shape: 0 or 1e-30 to 1e30 in magnitude.

    They are equal numbers, signs, a one-hot or noise, times the magnitude.
    """
    st = hypothesis_strategies("parameters")

    def build(kind: str, magnitude: float, seed: int) -> Shaped[Tensor, "..."]:
        generator = torch.Generator().manual_seed(seed)
        raw = torch.randn(shape, generator=generator)
        if kind == "equal":
            raw = torch.ones(shape)
        elif kind == "opposite":
            raw = raw.sign()
        elif kind == "one":
            raw = torch.zeros(shape)
            raw[..., seed % shape[-1]] = 1.0
        return magnitude * raw

    kinds = st.sampled_from(["equal", "noise", "opposite", "one"])
    return st.builds(build, kinds, st.sampled_from(MAGNITUDES), st.integers(0, 9))


def observations(spaces: Spaces, *batch: int) -> Any:
    """Observations by key, `*batch ...`."""
    st = hypothesis_strategies("observations")
    return st.fixed_dictionaries({key: _values(space, *batch) for key, space in spaces.items()})


def _values(space: Space, *batch: int) -> Any:
    st = hypothesis_strategies("observations")
    if isinstance(space, Image):
        return images(space, *batch)
    shape = (*batch, *space.shape)
    if isinstance(space, Continuous):
        return vectors(*shape, magnitudes=(1.0, 0.0, 1e-3, 1e3, 1e8))

    dtype = torch.uint8 if isinstance(space, Grid) else torch.int64

    def build(seed: int) -> Shaped[Tensor, "..."]:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(space.classes, shape, generator=generator, dtype=dtype)

    return st.builds(build, st.integers(0, 9))


def action_spaces(*, most: int = 3) -> Any:
    """Action spaces with one to `most` keys, which are not sorted; discrete and continuous."""
    st = hypothesis_strategies("action_spaces")
    shape = st.sampled_from([(), (1,), (2,), (2, 3)])
    part = st.one_of(st.builds(Discrete, st.integers(1, 5), shape), st.builds(Continuous, shape))
    keys = st.lists(st.sampled_from("zyxba"), min_size=1, max_size=most, unique=True)
    return keys.flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(names, part)))


def actions(space: Actions, *batch: int) -> Any:
    """Flat actions `*batch action`: inside the bounds, at the bounds, and zeros."""
    st = hypothesis_strategies("actions")

    def build(kind: str, seed: int) -> Float32[Tensor, "..."]:
        random, parts = np.random.default_rng(seed), []
        for key in sorted(space):
            one, count = space[key], int(np.prod(space[key].shape))
            if isinstance(one, Discrete):
                index = random.integers(one.classes, size=(*batch, count))
                value = np.eye(one.classes)[index].reshape(*batch, -1)
            else:
                value = random.uniform(-1, 1, (*batch, count))
                value = np.sign(value) if kind == "ends" else value
            parts.append(value)
        flat = torch.from_numpy(np.concatenate(parts, -1)).float()
        return torch.zeros_like(flat) if kind == "zeros" else flat

    return st.builds(build, st.sampled_from(["inside", "ends", "zeros"]), st.integers(0, 9))


def batches(
    observation: Spaces,
    action: Actions,
    *,
    batch: tuple[int, int] = (1, 3),
    time: tuple[int, int] = (1, 6),
) -> Any:
    """Batches of replay without carry and row; sizes as in `trajectories`."""
    st = hypothesis_strategies("batches")

    def of(trajectory: Trajectory) -> Any:
        axes = trajectory.batch, trajectory.time

        def build(obs: Any, prev_action: Any) -> Batch:
            first = trajectory.is_first
            first_of_next = torch.cat([first[:, 1:], torch.zeros_like(first[:, :1])], 1)
            return Batch(
                obs=obs,
                prev_action=torch.where(first[..., None], 0.0, prev_action),
                reward=torch.where(first, 0.0, trajectory.normal(key=1)),
                is_first=first,
                is_last=trajectory.is_last | first_of_next,
                is_terminal=trajectory.is_terminal,
                carry=None,
                row=None,
            )

        return st.builds(build, observations(observation, *axes), actions(action, *axes))

    return trajectories(batch=batch, time=time).flatmap(of)


def carries(block: Any, *, embed_dim: int, action_dim: int, batch: int = 2) -> Any:
    """Carries of a dynamics block after zero to four random rows."""
    st = hypothesis_strategies("carries")
    return st.builds(
        lambda rows, seed: reached(block, embed_dim, action_dim, batch, rows, seed),
        st.integers(0, 4),
        st.integers(0, 9),
    )


@torch.no_grad()
def reached(block: Any, embed_dim: int, action_dim: int, batch: int, rows: int, seed: int) -> Any:
    """The carry of a dynamics block after `rows` rows of normal numbers."""
    trajectory = Trajectory((False,) * batch, ("." * rows,) * batch, seed)
    carry = block.initial(batch)
    embed, action = trajectory.normal(embed_dim, key=7), trajectory.normal(action_dim, key=8)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for t in range(rows):
            never = torch.zeros(batch, dtype=torch.bool)
            carry = block.observe_step(carry, embed[:, t], action[:, t], never).carry
    return carry
