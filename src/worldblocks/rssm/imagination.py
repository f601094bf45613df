"""Imagination: any dynamics block rolled forward without observations."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from worldblocks._wrong_call import as_tensor, described
from worldblocks.rssm.protocols import AnyState, Dynamics
from worldblocks.typing import typed

S = TypeVar("S", bound=AnyState)
T = TypeVar("T")


def stack(states: list[T]) -> T:
    """Join states of single rows to one of a sequence, `batch ... -> batch time ...`."""
    return pytree.tree_map(lambda *rows: torch.stack(rows, 1), *states)


def imagine(
    dynamics: Dynamics, state: S, policy: Callable[[S], Float[Tensor, "batch action"]], steps: int
) -> tuple[S, Float[Tensor, "batch time action"]]:
    """Roll a policy forward from a state.

    Row 0 of the result is `state` itself; `actions[:, t]` is chosen at `states[:, t]`. Both have
    `steps + 1` rows: the action of the last row is chosen but not taken. Rows are light: a core
    whose memory is more than its deterministic state keeps none of it, see `State.light`.

    Args:
        dynamics: any block with `imagine_step`.
        state: where to start, batch axis only.
        policy: gives an action `batch action` at a state.
        steps: how many steps to imagine.

    Source: DreamerV3, section "Actor critic learning".
    """
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"imagine takes a number of steps, got {steps!r}; use an int from 0 up")
    if not hasattr(state, "light"):
        raise TypeError(
            f"imagine starts from a state, got {described(state)}; give a state of observe or "
            f"imagine_step, such as states.flatten(), not its carry or feature"
        )
    if not callable(policy):
        raise TypeError(
            f"imagine takes a policy, a function that gives the action at a state, got "
            f"{described(policy)}; wb.rssm.rollout takes given actions"
        )
    states, actions = [state.light()], [policy(state)]
    if not isinstance(actions[0], Tensor):
        raise TypeError(
            f"policy(state) should be an action, Float[Tensor, 'batch action'], got "
            f"{described(actions[0])}; {as_tensor(actions[0], 'action')}"
        )
    for _ in range(steps):
        state = dynamics.imagine_step(state.carry, actions[-1])
        states.append(state.light())
        actions.append(policy(state))
    return stack(states), torch.stack(actions, 1)


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
    states = []
    for action in actions.unbind(1):
        state = dynamics.imagine_step(carry, action)
        states.append(state.light())
        carry = state.carry
    return stack(states)
