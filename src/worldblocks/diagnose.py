"""Is this world model any good? Open-loop predictions and checks on held-out episodes.

Works on any agent that has an `encoder`, a dynamics block `rssm`, a `decoder`, a `reward` head and
a `value` head.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.decoders import MultiDecoder
from worldblocks.encoders import MultiEncoder
from worldblocks.envs import EnvVector
from worldblocks.heads import TwoHotHead
from worldblocks.replay import Batch
from worldblocks.rssm import RSSM, Carry, State, rollout
from worldblocks.run.report import Check, held_out, realised_return
from worldblocks.run.video import open_loop_grid

CONTEXT, STEPS = 5, 15  # rows shown and rows imagined
LENGTH = CONTEXT + STEPS
SAMPLES, WINDOWS = 8, 96  # imagined futures of a window, and windows, of a report


class Agent(Protocol):
    """The parts of an agent that are looked at."""

    encoder: MultiEncoder
    rssm: RSSM
    decoder: MultiDecoder
    reward: TwoHotHead
    value: TwoHotHead


@torch.no_grad()
def open_loop(
    agent: Agent,
    batch: Batch,
    *,
    context: int = CONTEXT,
    actions: Float[Tensor, "batch time action"] | None = None,
) -> State:
    """Observe the first `context` rows, imagine the others from the actions that led to them.

    Args:
        agent: its encoder and dynamics.
        batch: sequences `batch time ...` with the (unpacked) carry of the row before row 0.
        context: rows that are observed.
        actions: in place of `batch.prev_action` for the imagined rows.
    """
    actions = batch.prev_action if actions is None else actions
    embed = agent.encoder({key: value[:, :context] for key, value in batch.obs.items()})
    past, first = batch.prev_action[:, :context], batch.is_first[:, :context]
    carry = Carry(*(x.to(embed.dtype) for x in batch.carry))  # replay may keep bfloat16
    post = agent.rssm.observe(carry, embed, past, first)
    prior = rollout(agent.rssm, post[:, -1].carry, actions[:, context:])
    return State(*(torch.cat(pair, 1) for pair in zip(post, prior, strict=True)))


@torch.no_grad()
def open_loop_video(agent: Agent, batch: Batch) -> UInt8[Tensor, "time rows columns 3"]:
    """Frames that show truth, open-loop prediction and error side by side.

    Looking changes nothing: the random numbers of training go on as if nobody had.
    """
    with torch.random.fork_rng():
        return open_loop_grid(_image(agent, batch), _predicted(agent, batch), CONTEXT)


def play(act: Callable[..., Any], agent: Any, envs: EnvVector, steps: int) -> Batch:
    """Let an agent play, and give the rows of all environments as one batch `env time ...`.

    Args:
        act: `act(agent, obs, carry, is_first) -> (action, carry)`; a carry's second part is the
            last action.
        agent: what `act` takes; `agent.initial(n)` is the first carry.
        envs: environments, reset here and closed in the end.
        steps: rows of each environment.
    """
    rows, carry, played = envs.reset(), agent.initial(len(envs)), []
    for _ in range(steps):
        played.append((rows, carry[1].cpu()))
        action, carry = act(agent, rows.obs, carry, rows.is_first)
        rows = envs.step(action)
    envs.close()
    rows, prev_action = pytree.tree_map(lambda *x: torch.stack(x, 1), *played)
    return Batch(**rows._asdict(), prev_action=prev_action, carry=None, row=None)


@torch.no_grad()
def judge(
    agent: Agent,
    batch: Batch,
    *,
    gamma: float,
    mean_frame: Float[Tensor, "height width channel"],
) -> list[Check]:
    """The report of a world model on held-out rows; what is judged stands at `wb.run.held_out`.

    A predicted image is the mean over `SAMPLES` imagined futures: squared error asks for the
    expected picture, and one sample pays for its own randomness too.

    Args:
        agent: the agent that is judged.
        batch: whole sequences `env time ...` from their first row on, as `play` gives them.
        gamma: the discount of the agent's value.
        mean_frame: mean of the training images, in [0, 1].
    """
    carry = agent.rssm.initial(len(batch.reward))
    batch = batch.to(carry.deter.device)
    embed = agent.encoder(batch.obs)
    post = agent.rssm.observe(carry, embed, batch.prev_action, batch.is_first)
    returns, known = realised_return(batch.reward, batch.is_last, batch.is_terminal, gamma)
    cuts = windows(batch, post, LENGTH)
    cuts = cuts.map(lambda x: x[:WINDOWS])
    mixed = cuts.prev_action.flatten(0, 1)
    mixed = mixed[torch.randperm(len(mixed))].view_as(cuts.prev_action)

    def expected(actions: Tensor) -> Tensor:
        return sum((_predicted(agent, cuts, actions) for _ in range(SAMPLES)), 0.0) / SAMPLES  # type: ignore[return-value]

    return held_out(
        truth=_image(agent, cuts),
        imagined=expected(cuts.prev_action),
        shuffled=expected(mixed),
        context=CONTEXT,
        mean_frame=mean_frame,
        reward=batch.reward,
        predicted_reward=agent.reward(post.feature()).mean,
        value=agent.value(post.feature()).mean,
        realised=returns,
        valid=known,
    )


def windows(batch: Batch, states: State, size: int) -> Batch:
    """Cut sequences `env time ...` into windows of `size` rows from row 1 on, side by side.

    The carry of a window is that of the state before it. Windows in which an episode begins after
    the context are left out: imagination does not cross an episode's end.
    """
    count = (batch.reward.shape[1] - 1) // size
    if count < 1:
        raise ValueError(
            f"windows of {size} rows need sequences of at least {size + 1}, got "
            f"{batch.reward.shape[1]}"
        )

    def cut(x: Tensor) -> Tensor:
        return x[:, 1 : 1 + count * size].unflatten(1, (count, size)).flatten(0, 1)

    carry = pytree.tree_map(lambda x: x[:, : count * size : size].flatten(0, 1), states.carry)
    cuts = batch.map(cut)._replace(carry=carry)
    whole = ~cuts.is_first[:, CONTEXT:].any(1)
    return cuts.map(lambda x: x[whole])


def _image(agent: Agent, batch: Batch) -> UInt8[Tensor, "batch time height width channel"]:
    return torch.cat([batch.obs[key] for key in agent.encoder.image_keys], -1)


def _predicted(
    agent: Agent, batch: Batch, actions: Tensor | None = None
) -> Float[Tensor, "batch time height width channel"]:
    mean = agent.decoder(open_loop(agent, batch, actions=actions)).mean
    return torch.cat([mean[key] for key in agent.encoder.image_keys], -1)
