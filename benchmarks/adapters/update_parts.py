"""Parts of an update, each alone: forward, and forward and backward."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

import worldblocks as wb
from benchmarks.adapters.updates import Update

Functions = dict[str, Callable[[], Any]]


def parts(one: Update) -> Functions:
    """By `name forward` and `name both`; imagination and the optimiser are a forward alone."""
    agent, rows, cfg = one.agent, one.rows, one.cfg
    with computing(one), torch.no_grad():
        embed = agent.encoder(rows.obs)
        states = agent.rssm.observe(rows.carry, embed, rows.prev_action, rows.is_first)
    embed, post = leaf(embed), type(states)(*map(leaf, states))
    start = states.flatten()

    def encoder() -> Tensor:
        return agent.encoder(rows.obs).float().sum()

    def observe() -> Tensor:
        seen = agent.rssm.observe(rows.carry, embed, rows.prev_action, rows.is_first)
        prior, posterior = agent.rssm.prior(seen.deter), agent.rssm.posterior(seen)
        dyn, rep = wb.losses.balanced_kl(posterior, prior, free_nats=0.0)
        return dyn.mean() + rep.mean() + seen.deter.mean()

    def decoder() -> Tensor:
        return agent.decoder(post).nll(rows.obs).mean()

    def heads() -> Tensor:
        feature = post.feature()
        alive = 1.0 - rows.is_terminal.float()
        return agent.reward(feature).nll(rows.reward).mean() + agent.cont(feature).nll(alive).mean()

    def actor_critic() -> Tensor:
        losses, _ = one.recipe.actor_critic_loss(agent, post, rows, cfg)
        return torch.stack([loss.mean() for loss in losses.values()]).sum()

    @torch.no_grad()
    def imagine() -> Any:
        policy = lambda s: agent.actor(s.feature()).sample()  # noqa: E731
        return wb.rssm.imagine(agent.rssm, start, policy, cfg.horizon)

    losses = {"encoder": encoder, "observe": observe, "decoder": decoder, "heads": heads}
    losses["actor, critic, imagination"] = actor_critic
    found: Functions = {}
    for name, loss in losses.items():
        found |= both_ways(one, name, loss)
    found["imagination forward"] = under(one, imagine)
    found["optimiser forward"] = optimiser(one)
    return found


def both_ways(one: Update, name: str, loss: Callable[[], Tensor]) -> Functions:
    """A part without and with its backward pass."""
    forward = under(one, loss)

    def both() -> None:
        one.optimizer.zero_grad()
        forward().backward()

    return {f"{name} forward": forward, f"{name} both": both}


def under(one: Update, function: Callable[[], Any]) -> Callable[[], Any]:
    """The function in the dtype that the recipe computes in."""

    def inside() -> Any:
        with computing(one):
            return function()

    return inside


@contextmanager
def computing(one: Update) -> Iterator[None]:
    """As the recipe's update has it."""
    device = one.rows.reward.device.type
    with torch.autocast(device, torch.bfloat16, enabled=one.cfg.bf16):
        yield


def optimiser(one: Update) -> Callable[[], None]:
    """Clipping, LaProp and the slow copy, with the gradients of one update."""
    one.step()
    trained = [p for p in one.agent.parameters() if p.grad is not None]
    gradients = [p.grad.clone() for p in trained]

    def step() -> None:
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        one.optimizer.step()
        one.agent.slow_value.update(one.agent.value)

    return step


def leaf(tensor: Tensor) -> Tensor:
    """Detached, with a gradient of its own."""
    return tensor.detach().requires_grad_()
