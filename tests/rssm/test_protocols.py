"""A core and a latent of somebody else's: an RSSM asks for no more than `Core` and `Latent` say."""

import re

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn
from torch.utils import _pytree as pytree

import worldblocks as wb
from worldblocks.distributions import Bernoulli
from worldblocks.rssm import RSSM, AnyState, Packed, State

DETER, SIZE, EMBED, ACTION, BATCH, TIME = 12, 5, 11, 3, 2, 7


class BitLatent(nn.Module):
    """Independent bits, stored as such."""

    shape = (SIZE,)

    def __init__(self, absolute):
        super().__init__()
        self.absolute = absolute
        self.from_deter = nn.Linear(DETER, SIZE)
        self.from_embed = nn.Linear(EMBED, SIZE)

    def project(self, embed):
        return self.from_embed(embed)

    def noise(self, is_first):
        return torch.rand(*is_first.shape, SIZE)

    def prior(self, deter):
        return {"logit": self.from_deter(deter)}

    def posterior(self, deter, projected):
        return {"logit": projected if self.absolute else projected + self.from_deter(deter)}

    def distribution(self, parameters):
        return Bernoulli(parameters["logit"], event=1)

    def pack(self, stoch):
        return stoch > 0.5

    def unpack(self, packed, like):
        return packed.to(like.dtype)


class Cell(nn.GRUCell):
    """PyTorch's own cell on [stoch, action]."""

    deter = DETER

    def __init__(self):
        super().__init__(SIZE + ACTION, DETER)

    def initial(self, batch):
        return self.weight_hh.new_zeros(batch, DETER)

    def project_action(self, action):
        return action

    def step(self, memory, stoch, projected):
        new = self(torch.cat([stoch, projected], -1), memory)
        return new, new


class LongCell(nn.LSTMCell):
    """PyTorch's own cell with two parts, of which the second is not shown: a plain tuple."""

    deter = DETER

    def __init__(self):
        super().__init__(SIZE + ACTION, DETER)

    def initial(self, batch):
        zeros = self.weight_hh.new_zeros(batch, DETER)
        return zeros, zeros

    def project_action(self, action):
        return action

    def step(self, memory, stoch, projected):
        shown, kept = self(torch.cat([stoch, projected], -1), memory)
        return shown, (shown, kept)


@pytest.fixture(params=[Cell, LongCell])
def core(request):
    return request.param()


@pytest.fixture(params=[False, True], ids=["", "decoupled"])
def module(core, request):
    return RSSM(core, BitLatent(request.param))


def rows():
    is_first = torch.zeros(BATCH, TIME, dtype=torch.bool)
    is_first[1, 3] = True
    return torch.randn(BATCH, TIME, EMBED), torch.randn(BATCH, TIME, ACTION), is_first


def test_it_observes_and_imagines(module):
    given = rows()
    with wb.distributions.modes():
        states = module.observe(module.initial(BATCH), *given)
        carry = module.initial(BATCH)
        for t in range(TIME):
            state = module.observe_step(carry, *(x[:, t] for x in given))
            torch.testing.assert_close(state, states[:, t])
            carry = state.carry
    assert isinstance(states, State)
    assert isinstance(states, AnyState)
    assert set(states.stoch.unique().tolist()) == {0, 1}
    assert module.part_dims == (DETER, SIZE)
    assert states.feature().shape == (BATCH, TIME, module.feature_dim)
    entropies = [module.posterior(states).entropy(), module.prior(states).entropy()]
    assert {entropy.shape for entropy in entropies} == {(BATCH, TIME)}
    policy = lambda state: state.feature()[:, :ACTION]  # noqa: E731
    imagined, _ = wb.rssm.imagine(module, states.flatten(), policy, 4)
    assert imagined.feature().shape == (BATCH * TIME, 5, module.feature_dim)
    assert set(imagined.parameters) == {"logit"}


def test_it_is_stored_as_its_parts_say(module):
    states = module.observe(module.initial(BATCH), *rows())
    for each in (module.initial(BATCH), states.carry):
        packed = module.pack(each)
        assert (type(packed), packed.stoch.dtype) == (Packed, torch.bool)
        assert packed.memory is each.memory
        back = module.unpack(packed)
        assert pytree.tree_structure(back) == pytree.tree_structure(each)
        for ours, theirs in zip(*map(pytree.tree_leaves, (back, each)), strict=True):
            assert torch.equal(ours, theirs)


def test_computing_twice_changes_nothing(module):
    given, found = rows(), []
    for module.recompute in (0, 3):
        torch.manual_seed(1)
        found.append(module.observe(module.initial(BATCH), *given))
    torch.testing.assert_close(*found)


def test_a_carry_of_another_kind_is_refused(module):
    given, carry = rows(), module.initial(BATCH)
    with pytest.raises(TypeCheckError, match=r"carry.stoch should be Float.*got bool\[2, 5\]"):
        module.observe(carry._replace(stoch=carry.stoch > 0), *given)
    with pytest.raises(TypeCheckError, match="carry should be Carry"):
        module.observe(torch.zeros(BATCH, DETER), *given)
    two = isinstance(carry.memory, tuple)
    other = carry.memory[0] if two else (carry.memory, carry.memory)
    wanted, got = ([[BATCH, DETER]] * parts + [[BATCH, SIZE]] for parts in (1 + two, 2 - two))
    message = re.escape(f"carries tensors of the shapes {wanted}, got {got}: a carry of another")
    with pytest.raises(ValueError, match=message):
        module.observe(carry._replace(memory=other), *given)
