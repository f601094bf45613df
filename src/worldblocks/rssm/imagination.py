"""Imagination: any dynamics block rolled forward without observations."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worldblocks.typing import typed

S = TypeVar("S")


class Dynamics(Protocol):
    """What a dynamics block promises. A carry and a state are pytrees of tensors, batch first.

    A block may also have `repeated_step(carry)`, which gives `imagine_step` for many steps between
    which no parameter changes (`RSSM.repeated_step`).
    """

    feature_dim: int

    def initial(self, batch: int) -> Any:
        """The carry before the first row of an episode."""

    def observe_step(
        self,
        carry: Any,
        embed: Float[Tensor, "batch embed"],
        prev_action: Float[Tensor, "batch action"],
        is_first: Bool[Tensor, " batch"],
    ) -> Any:
        """The state of one row, given its observation."""

    def observe(
        self,
        carry: Any,
        embed: Float[Tensor, "batch time embed"],
        prev_action: Float[Tensor, "batch time action"],
        is_first: Bool[Tensor, "batch time"],
    ) -> Any:
        """The states of a sequence, given its observations."""

    def imagine_step(self, carry: Any, action: Float[Tensor, "batch action"]) -> Any:
        """The state after an action, without an observation. It has a `carry`."""


def stack(states: list[S]) -> S:
    """Join states of single rows to one of a sequence, `batch ... -> batch time ...`."""
    return pytree.tree_map(lambda *rows: torch.stack(rows, 1), *states)


def imagine(
    dynamics: Dynamics, state: S, policy: Callable[[S], Float[Tensor, "batch action"]], steps: int
) -> tuple[S, Float[Tensor, "batch time action"]]:
    """Roll a policy forward from a state.

    Row 0 of the result is `state` itself; `actions[:, t]` is chosen at `states[:, t]`. Both have
    `steps + 1` rows: the action of the last row is chosen but not taken.

    Args:
        dynamics: any block with `imagine_step`; where it has `repeated_step` too, that gives what
            takes the steps after the first.
        state: where to start, batch axis only.
        policy: gives an action `batch action` at a state.
        steps: how many steps to imagine.

    Source: DreamerV3, section "Actor critic learning".
    """
    if steps < 0:
        raise ValueError(f"imagine takes a number of steps, got {steps}")
    states: list[Any] = [state]
    actions = [policy(state)]
    for step in _steps(dynamics, states[0].carry, steps):
        states.append(step(states[-1].carry, actions[-1]))
        actions.append(policy(states[-1]))
    return stack(states), torch.stack(actions, 1)


def _steps(dynamics: Any, carry: Any, steps: int) -> Iterator[Callable[[Any, Any], Any]]:
    """What takes each step: `imagine_step`, which checks, and then what a block has for more."""
    if steps:
        yield dynamics.imagine_step
    if steps > 1:
        # Of its type: what wraps another block has that block's methods, but a step of its own.
        repeated = getattr(type(dynamics), "repeated_step", None)
        step = repeated(dynamics, carry) if repeated else dynamics.imagine_step
        yield from [step] * (steps - 1)


@contextlib.contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Inside, the modules' parameters take no gradient, though gradients still pass through them.

    An actor that learns through imagined rows must not change the world they are imagined in.
    Outputs computed inside stay so; graphs from before and after are not touched.

    >>> layer, x = nn.Linear(1, 1), torch.ones(1, requires_grad=True)
    >>> with frozen(layer):
    ...     y = layer(x)
    >>> y.backward()
    >>> x.grad is None, layer.weight.grad is None
    (False, True)
    """
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@typed
def rollout(dynamics: Any, carry: Any, actions: Float[Tensor, "batch time action"]) -> Any:
    """Roll given actions forward from a carry, without observations (open loop).

    Row t of the result is the state after `actions[:, t]`.
    """
    if not actions.shape[1]:
        raise ValueError("rollout needs at least one action, got time = 0")
    states, steps = [], _steps(dynamics, carry, actions.shape[1])
    for step, action in zip(steps, actions.unbind(1), strict=True):
        states.append(step(carry, action))
        carry = states[-1].carry
    return stack(states)
