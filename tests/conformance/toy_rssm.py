"""A dynamics block of one's own: a GRU and a normal latent."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from worldblocks.distributions import Normal


class Memory(NamedTuple):  # what a step takes: the carry
    deter: Tensor
    stoch: Tensor


class Belief(NamedTuple):  # what heads and losses read: the state
    deter: Tensor
    stoch: Tensor

    @property
    def carry(self):
        return Memory(self.deter, self.stoch)

    def feature(self):
        return torch.cat([self.deter, self.stoch], -1)

    def light(self):  # what imagination keeps of it
        return self


class ToyRSSM(nn.Module):
    def __init__(self, embed_dim, action_dim, deter=12, stoch=4):
        super().__init__()
        self.sizes, self.feature_dim = (deter, stoch), deter + stoch
        self.cell = nn.GRUCell(stoch + action_dim, deter)
        self.expect = nn.Linear(deter, 2 * stoch)
        self.correct = nn.Linear(deter + embed_dim, 2 * stoch)

    def initial(self, batch):
        weight = self.expect.weight  # its device and dtype
        return Memory(*(weight.new_zeros(batch, size) for size in self.sizes))

    def observe_step(self, carry, embed, prev_action, is_first):
        first = is_first[:, None]
        carry = Memory(*(torch.where(first, 0.0, x) for x in carry))
        deter = self.step(carry, torch.where(first, 0.0, prev_action))
        return self.sample(deter, self.correct(torch.cat([deter, embed], -1)))

    def observe(self, carry, embed, prev_action, is_first):
        states = []
        for t in range(embed.shape[1]):
            states.append(self.observe_step(carry, embed[:, t], prev_action[:, t], is_first[:, t]))
            carry = states[-1].carry
        return Belief(*(torch.stack(field, 1) for field in zip(*states, strict=True)))

    def imagine_step(self, carry, action):
        deter = self.step(carry, action)
        return self.sample(deter, self.expect(deter))

    def step(self, carry, action):
        return self.cell(torch.cat([carry.stoch, action], -1), carry.deter)

    def sample(self, deter, raw):
        return Belief(deter, self.normal(raw).sample().to(deter.dtype))

    def normal(self, raw):
        mean, deviation = raw.chunk(2, -1)
        return Normal(mean, softplus(deviation) + 0.1, event=1)

    def prior(self, state):
        return self.normal(self.expect(state.deter))
