"""Open-loop rollouts: observe a few rows, imagine the rest, decode all of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils import _pytree as pytree

from worldblocks.decoders import MultiDecoder
from worldblocks.encoders import MultiEncoder
from worldblocks.replay import Batch
from worldblocks.rssm import RSSM, AnyState, rollout
from worldblocks.run.video import grid_colours, open_loop_grid, picture, side_by_side
from worldblocks.spaces import Discrete, Grid
from worldblocks.transforms import symlog

CONTEXT = 5
"""Number of rows the model observes."""
STEPS = 15
"""Number of rows it imagines after them."""
LENGTH = CONTEXT + STEPS
"""Number of rows in a window, observed and imagined."""
SAMPLES = 8
"""Number of imagined futures per window; their mean is the prediction."""
WINDOWS = 96
"""Maximum number of windows in a report."""


class Agent(Protocol):
    """The parts of an agent that are diagnosed."""

    encoder: MultiEncoder
    rssm: RSSM
    decoder: MultiDecoder
    reward: Any  # heads of any kind
    value: Any


@torch.no_grad()
def open_loop(
    agent: Agent,
    batch: Batch,
    *,
    context: int = CONTEXT,
    actions: Float[Tensor, "batch time action"] | None = None,
) -> AnyState:
    """Observe the first `context` rows and imagine the rest from the actions that led to them.

    Args:
        agent: has an encoder and dynamics.
        batch: sequences `batch time ...` with the unpacked carry of the row before row 0,
            or None.
        context: number of rows to observe.
        actions: used instead of `batch.prev_action` in the imagined rows.
    """
    actions = batch.prev_action if actions is None else actions
    embed = agent.encoder({key: value[:, :context] for key, value in batch.obs.items()})
    past, first = batch.prev_action[:, :context], batch.is_first[:, :context]
    stored = batch.carry  # in bfloat16, if replay stores that; None if it stores none
    carry = stored and pytree.tree_map(
        lambda x: x.to(embed.dtype) if x.is_floating_point() else x, stored
    )
    post = agent.rssm.observe(carry, embed, past, first)
    prior = rollout(agent.rssm, post[:, -1].carry, actions[:, context:])
    return pytree.tree_map(lambda *pair: torch.cat(pair, 1), post.light(), prior)


@torch.no_grad()
def open_loop_video(agent: Agent, batch: Batch) -> UInt8[Tensor, "time rows columns 3"]:
    """Video frames with truth, open-loop prediction and error side by side.

    Several cameras are side by side too, and a grid is drawn in colours. The random state is left
    unchanged.

    Raises:
        ValueError: the agent observes neither images nor grids.
    """
    keys, grids = agent.encoder.picture_keys, agent.decoder.grid_spaces
    if not keys:
        raise ValueError(
            f"an open-loop video needs an agent that observes images or grids, this one observes "
            f"{list(agent.encoder.keys)}: call it only if agent.encoder.picture_keys is not empty"
        )
    with torch.random.fork_rng():
        guess, truth = imagined(agent, batch), dict(batch.obs)
    for key, space in grids.items():
        guess[key] = grid_colours(guess[key].unflatten(-1, (*space.shape, space.classes)))
        truth[key] = picture(space, truth[key])
    if len(keys) == 1:
        return open_loop_grid(truth[keys[0]], guess[keys[0]], CONTEXT)
    real, seen = (side_by_side([part[key] for key in keys]) for part in (truth, guess))
    return open_loop_grid(real, seen, CONTEXT)


def imagined(
    agent: Agent, batch: Batch, actions: Tensor | None = None, samples: int = 1
) -> dict[str, Tensor]:
    """Open-loop prediction of each observation: the mean over `samples` imagined futures."""
    total: dict[str, Tensor] = {}
    for _ in range(samples):
        means = decoded(agent, open_loop(agent, batch, actions=actions))
        total = {key: total.get(key, 0) + mean / samples for key, mean in means.items()}
    return total


def decoded(agent: Agent, states: AnyState) -> dict[str, Tensor]:
    """Predicted mean of each observation; other than images, flat: `batch time feature`."""
    keys = agent.encoder.image_keys
    means = agent.decoder(states).mean
    return {key: mean if key in keys else _flat(mean) for key, mean in means.items()}


def truths(agent: Agent, batch: Batch) -> dict[str, Tensor]:
    """Each observation in the space of `decoded`: images in [0, 1], symlog numbers, one-hots."""
    truth = {key: batch.obs[key].float() / 255 for key in agent.encoder.image_keys}
    spaces: dict[str, Any] = dict(agent.decoder.vector.spaces if agent.decoder.vector else {})
    for key, space in {**spaces, **agent.decoder.grid_spaces}.items():
        value = batch.obs[key]
        discrete = isinstance(space, Discrete | Grid)
        value = one_hot(value.long(), space.classes).float() if discrete else symlog(value.float())
        truth[key] = _flat(value)
    return truth


def _flat(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], -1)


def images(agent: Agent, parts: Mapping[str, Tensor]) -> Float[Tensor, "b time h w channel"]:
    """The image observations as one, see `joined`."""
    return joined([parts[key] for key in agent.encoder.image_keys])


def joined(images: Sequence[Tensor]) -> Shaped[Tensor, "*batch height width channel"]:
    """Images of one size concatenated by channel, of several sizes side by side."""
    one = len({image.shape[-3:-1] for image in images}) == 1
    return torch.cat([*images], -1) if one else side_by_side(images)


def vectors(agent: Agent, parts: Mapping[str, Tensor]) -> Float[Tensor, "batch time feature"]:
    """The other observations, concatenated into one vector in sorted key order."""
    return torch.cat([parts[key] for key in vector_keys(agent)], -1)


def vector_keys(agent: Agent) -> list[str]:
    """Keys of the observations other than images, sorted."""
    return sorted(set(agent.encoder.keys) - set(agent.encoder.image_keys))
