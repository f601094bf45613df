"""A core and a latent of somebody else's: an RSSM asks for no more than `Core` and `Latent` say."""

from typing import NamedTuple

import pytest
import torch
from jaxtyping import Bool, Float, TypeCheckError
from torch import Tensor, nn

import worldblocks as wb
from worldblocks.distributions import Bernoulli
from worldblocks.rssm import RSSM, AnyCarry, AnyState

DETER, SIZE, EMBED, ACTION, BATCH, TIME = 12, 5, 11, 3, 2, 7


class Bits(NamedTuple):
    deter: Float[Tensor, "*batch deter"]
    bits: Bool[Tensor, "*batch stoch"]

    def parts(self):
        return self.deter, self.bits.to(self.deter.dtype)

    def detach(self):
        return Bits(*(x.detach() for x in self))


class BitsState(NamedTuple):
    deter: Float[Tensor, "*batch deter"]
    bits: Bool[Tensor, "*batch stoch"]
    logit: Float[Tensor, "*batch stoch"]

    @property
    def carry(self):
        return Bits(self.deter, self.bits)

    def parts(self):
        return self.carry.parts()

    def feature(self):
        return torch.cat(self.parts(), -1)

    def flatten(self):
        return BitsState(*(x.flatten(0, 1) for x in self))

    def detach(self):
        return BitsState(*(x.detach() for x in self))

    def __getitem__(self, index):
        if isinstance(index, int):
            return tuple.__getitem__(self, index)
        return BitsState(*(x[index] for x in self))


class BitLatent(nn.Module):
    """Independent bits."""

    size = SIZE

    def __init__(self, absolute):
        super().__init__()
        self.absolute = absolute
        self.from_deter = nn.Linear(DETER, SIZE)
        self.from_embed = nn.Linear(EMBED, SIZE)

    def initial(self, deter):
        return Bits(deter, deter.new_zeros(len(deter), SIZE, dtype=torch.bool))

    def project(self, embed):
        return self.from_embed(embed)

    def noise(self, is_first):
        return torch.rand(*is_first.shape, SIZE)

    def prior(self, deter):
        return self.from_deter(deter)

    def posterior(self, deter, projected):
        return projected if self.absolute else projected + self.from_deter(deter)

    def distribution(self, parameters):
        return Bernoulli(parameters, event=1)

    def sample(self, parameters, noise=None):
        return self.distribution(parameters).sample(noise) > 0.5

    def state(self, deter, stoch, parameters):
        return BitsState(deter, stoch, parameters)

    def drawn_from(self, state):
        return self.distribution(state.logit)

    def pack(self, carry):
        return carry

    def unpack(self, packed):
        return packed


class Cell(nn.GRUCell):
    """PyTorch's own cell on [stoch, action]."""

    deter = DETER

    def project_action(self, action):
        return action

    def step(self, deter, stoch, projected):
        return self(torch.cat([stoch.to(deter.dtype), projected], -1), deter)


@pytest.fixture(params=[False, True], ids=["", "decoupled"])
def module(request):
    return RSSM(Cell(SIZE + ACTION, DETER), BitLatent(request.param))


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
    assert isinstance(states, BitsState)
    assert isinstance(states, AnyState)
    assert isinstance(states.carry, AnyCarry)
    assert states.feature().shape == (BATCH, TIME, module.feature_dim)
    entropies = [module.posterior(states).entropy(), module.prior(states.deter).entropy()]
    assert {entropy.shape for entropy in entropies} == {(BATCH, TIME)}
    policy = lambda state: state.feature()[:, :ACTION]  # noqa: E731
    imagined, _ = wb.rssm.imagine(module, states.flatten(), policy, 4)
    assert imagined.feature().shape == (BATCH * TIME, 5, module.feature_dim)


def test_computing_twice_changes_nothing(module):
    given, found = rows(), []
    for module.recompute in (0, 3):
        torch.manual_seed(1)
        found.append(module.observe(module.initial(BATCH), *given))
    torch.testing.assert_close(*found)


def test_its_own_annotations_are_checked(module):
    wrong = module.initial(BATCH)._replace(bits=torch.zeros(3, SIZE, dtype=torch.bool))
    with pytest.raises(TypeCheckError, match=r"carry.bits should be Bool.*got bool\[3, 5\]"):
        module.observe(wrong, *rows())
    with pytest.raises(TypeCheckError, match="parameter 'carry'"):
        module.observe(torch.zeros(BATCH, DETER), *rows())
