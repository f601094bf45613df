import shutil
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.distributions import modes
from worldblocks.rssm import (
    RSSM,
    GaussianLatent,
    State,
    dreamer_rssm,
    frozen,
    imagine,
    rollout,
)

DETER, GROUPS, CLASSES, ACTION, BATCH, STEPS = 12, 5, 4, 3, 2, 6


def rssm():
    sizes = {"deter": DETER, "hidden": 7, "groups": GROUPS, "classes": CLASSES, "blocks": 3}
    module = dreamer_rssm(embed_dim=11, action_dim=ACTION, **sizes)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def of_normals():
    """The same core on a Gaussian latent."""
    latent = GaussianLatent(deter=DETER, embed_dim=11, size=GROUPS * CLASSES, hidden=7)
    return RSSM(rssm().core, latent)


def start(module):
    return module.imagine_step(module.initial(BATCH), torch.randn(BATCH, ACTION))


def policy(state):
    """An action that tells where it was chosen."""
    return torch.tanh(state.feature()[:, :ACTION] + state.feature()[:, DETER : DETER + ACTION])


class Count(NamedTuple):
    total: Tensor

    @property
    def carry(self):
        return self.total

    def light(self):
        return self


class Adder:
    """A dynamics block whose state is the sum of the actions so far."""

    feature_dim = 1

    def imagine_step(self, carry, action):
        return Count(carry + action.sum(-1))


def test_by_hand():
    """Each action is the state plus 1: 0, then 0 + 1, then 1 + 2, then 3 + 4."""
    states, actions = imagine(Adder(), Count(torch.zeros(1)), lambda s: s.total[:, None] + 1, 3)
    assert states.total.tolist() == [[0, 1, 3, 7]]
    assert actions.tolist() == [[[1], [2], [4], [8]]]
    rolled = rollout(Adder(), torch.zeros(1), actions[:, :-1])
    assert rolled.total.tolist() == [[1, 3, 7]]


def test_rows_and_their_meaning():
    module = rssm()
    first = start(module)
    states, actions = imagine(module, first, policy, STEPS)
    assert isinstance(states, State)
    assert states.deter.shape == (BATCH, STEPS + 1, DETER)
    assert actions.shape == (BATCH, STEPS + 1, ACTION)
    for ours, theirs in zip(*map(pytree.tree_leaves, (states[:, 0], first)), strict=True):
        assert torch.equal(ours, theirs), "row 0 is the state it starts from"
    for t in range(STEPS + 1):
        torch.testing.assert_close(actions[:, t], policy(states[:, t]))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("make", [rssm, of_normals])
@given(steps=st.integers(0, 4))
def test_imagine_is_imagine_step_repeated(make, gradients, steps):
    module = make()
    state = start(module)
    with torch.set_grad_enabled(gradients):
        torch.manual_seed(1)
        states, actions = imagine(module, state, policy, steps)
        torch.manual_seed(1)
        for t in range(steps):
            state = module.imagine_step(state.carry, actions[:, t])
            torch.testing.assert_close(states[:, t + 1], state)


class Backwards(RSSM):
    """Takes the opposite of every action."""

    def imagine_step(self, carry, action):
        return super().imagine_step(carry, -action)


class Wrapper:
    """Takes the opposite of every action, and is another block otherwise."""

    def __init__(self, block):
        self.block = block

    def imagine_step(self, carry, action):
        return self.block.imagine_step(carry, -action)

    def __getattr__(self, name):
        return getattr(self.block, name)


class Doubled(RSSM):
    """Its samples are 2 where others are 1."""

    def imagine_step(self, carry, action):
        state = super().imagine_step(carry, action)
        return state._replace(stoch=2 * state.stoch)


@torch.no_grad()
@pytest.mark.parametrize("kind", [Backwards, Doubled, Wrapper])
def test_a_step_of_ones_own_is_taken_every_time(kind):
    module = rssm()
    block = Wrapper(module) if kind is Wrapper else kind(module.core, module.latent)
    actions, carry = torch.randn(BATCH, STEPS, ACTION), start(module).carry
    with modes():
        rolled = rollout(block, carry, actions)
        for t in range(STEPS):
            state = block.imagine_step(carry, actions[:, t])
            torch.testing.assert_close(rolled[:, t], state)
            carry = state.carry


def test_a_step_that_is_replaced_in_the_class(monkeypatch):
    module, calls = rssm(), []
    first = start(module)
    monkeypatch.setattr(RSSM, "imagine_step", lambda *given: calls.append(given) or first)
    with torch.no_grad():
        imagine(module, first, policy, STEPS)
    assert len(calls) == STEPS


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_no_rows_and_no_recording(context):
    module = rssm()
    with context(), modes():
        none = module.imagine_step(module.initial(0), torch.zeros(0, ACTION))
        states, actions = imagine(module, none, policy, STEPS)
        first = start(module)
        ours = imagine(module, first, policy, STEPS)
    assert states.deter.shape == (0, STEPS + 1, DETER)
    assert actions.shape == (0, STEPS + 1, ACTION)
    with modes():
        expected = imagine(module, first.map(torch.clone), policy, STEPS)
    torch.testing.assert_close(ours, expected)


def test_rollout_is_imagination_with_given_actions():
    module = rssm()
    first = start(module)
    with modes():
        states, actions = imagine(module, first, policy, STEPS)
        rolled = rollout(module, first.carry, actions[:, :-1])
    torch.testing.assert_close(rolled, states[:, 1:])


def test_trajectories_do_not_mix_and_the_future_does_not_matter():
    module, actions = rssm(), torch.randn(BATCH, STEPS, ACTION, requires_grad=True)
    rolled = rollout(module, module.initial(BATCH), actions)
    (gradient,) = torch.autograd.grad(rolled[0, 3].feature().square().sum(), actions)
    assert gradient[1].eq(0).all()
    assert gradient[0, 4:].eq(0).all()
    assert gradient[0, :4].ne(0).any(-1).all()


def test_frozen_leaves_what_was_frozen_before():
    first, second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    first.bias.requires_grad_(False)
    parameters = [*first.parameters(), *second.parameters()]
    with frozen(first, second):
        assert [p.requires_grad for p in parameters] == [False] * 4
    assert [p.requires_grad for p in parameters] == [True, False, True, True]


def test_capture(same_when_compiled):
    module = rssm()
    first = start(module).detach()

    def three_steps(deter, stoch, logits):
        with modes():
            return imagine(module, State(deter, stoch, logits), policy, 3)

    same_when_compiled(three_steps, *pytree.tree_leaves(first), module=module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # its own
@pytest.mark.skipif(not shutil.which("c++"), reason="the compiler of a CPU needs c++")
def test_a_compiled_step_imagines_the_same():
    """What `torch.compile` makes of the step takes its place."""
    module = rssm()
    first = start(module).detach()
    with torch.no_grad(), modes():
        expected, chosen = imagine(module, first, policy, STEPS)
        module.imagine_step = torch.compile(module.imagine_step, dynamic=False)
        states, actions = imagine(module, first, policy, STEPS)
    torch.testing.assert_close((states, actions), (expected, chosen), rtol=1e-5, atol=1e-5)


def test_wrong_input():
    module = rssm()
    with pytest.raises(ValueError, match="imagine takes a number of steps, got -1"):
        imagine(module, start(module), policy, -1)
    with pytest.raises(ValueError, match="rollout needs at least one action, got time = 0"):
        rollout(module, module.initial(BATCH), torch.zeros(BATCH, 0, ACTION))
    with pytest.raises(
        TypeCheckError, match=r"actions should be .*got float32\[2, 3\]; it has 2 of 3 axes"
    ):
        rollout(module, module.initial(BATCH), torch.zeros(BATCH, ACTION))
    with pytest.raises(ValueError, match=r"action should be 3 wide .*got shape \(2, 4\)"):
        imagine(module, start(module), lambda s: torch.zeros(BATCH, 4), 1)
