import shutil
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from worldblocks.distributions import modes
from worldblocks.rssm import State, dreamer_rssm, imagine, rollout

DETER, GROUPS, CLASSES, ACTION, BATCH, STEPS = 12, 5, 4, 3, 2, 6


def rssm():
    sizes = {"deter": DETER, "hidden": 7, "groups": GROUPS, "classes": CLASSES, "blocks": 3}
    module = dreamer_rssm(embed_dim=11, action_dim=ACTION, **sizes)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def start(module):
    return module.imagine_step(module.initial(BATCH), torch.randn(BATCH, ACTION))


def policy(state):
    """An action that tells where it was chosen."""
    return torch.tanh(state.feature()[:, :ACTION] + state.stoch[:, 0, :ACTION])


class Count(NamedTuple):
    total: Tensor

    @property
    def carry(self):
        return self.total


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
    for ours, given_ in zip(states[:, 0], first, strict=True):
        assert torch.equal(ours, given_), "row 0 is the state it starts from"
    for t in range(STEPS + 1):
        torch.testing.assert_close(actions[:, t], policy(states[:, t]))


@given(st.integers(0, 4))
def test_imagine_is_imagine_step_repeated(steps):
    module = rssm()
    state = start(module)
    torch.manual_seed(1)
    states, actions = imagine(module, state, policy, steps)
    torch.manual_seed(1)
    for t in range(steps):
        state = module.imagine_step(state.carry, actions[:, t])
        torch.testing.assert_close(states[:, t + 1], state)


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


def test_capture(same_when_compiled):
    module = rssm()
    first = start(module).detach()

    def three_steps(deter, stoch, logits):
        with modes():
            return imagine(module, State(deter, stoch, logits), policy, 3)

    same_when_compiled(three_steps, *first, module=module)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # its own
@pytest.mark.skipif(not shutil.which("c++"), reason="the compiler of a CPU needs c++")
def test_a_compiled_step_imagines_the_same():
    """The line that docs/performance.md has for long runs on a CPU."""
    module = rssm()
    first = start(module).detach()
    with torch.no_grad(), modes():
        expected, chosen = imagine(module, first, policy, STEPS)
        module.imagine_step = torch.compile(module.imagine_step, dynamic=False)
        states, actions = imagine(module, first, policy, STEPS)
    torch.testing.assert_close((*states, actions), (*expected, chosen), rtol=1e-5, atol=1e-5)


def test_wrong_input():
    module = rssm()
    with pytest.raises(ValueError, match="imagine takes a number of steps, got -1"):
        imagine(module, start(module), policy, -1)
    with pytest.raises(ValueError, match="rollout needs at least one action, got time = 0"):
        rollout(module, module.initial(BATCH), torch.zeros(BATCH, 0, ACTION))
    with pytest.raises(TypeCheckError, match=r"parameter 'actions'.*\s.*f32\[2,3\]"):
        rollout(module, module.initial(BATCH), torch.zeros(BATCH, ACTION))
    with pytest.raises(ValueError, match=r"action should be 3 wide .*got shape \(2, 4\)"):
        imagine(module, start(module), lambda s: torch.zeros(BATCH, 4), 1)
