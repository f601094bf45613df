"""Three faults of the toy, one in each twin."""

import torch
from toy_rssm import Memory, ToyRSSM


class KeepsItsSample(ToyRSSM):
    """A reset clears the deterministic state, and forgets the sampled one."""

    def observe_step(self, carry, embed, prev_action, is_first):
        first = is_first[:, None]
        carry = Memory(torch.where(first, 0.0, carry.deter), carry.stoch)
        deter = self.step(carry, torch.where(first, 0.0, prev_action))
        return self.sample(deter, self.correct(torch.cat([deter, embed], -1)))


class ActsTooEarly(ToyRSSM):
    """Row t is given the action chosen at row t, which leads to row t + 1."""

    def observe(self, carry, embed, prev_action, is_first):
        chosen = torch.cat([prev_action[:, 1:], torch.zeros_like(prev_action[:, :1])], 1)
        return super().observe(carry, embed, chosen, is_first)


class SamplesWithoutGradient(ToyRSSM):
    """The sample of a normal has a gradient, and this one throws it away."""

    def sample(self, deter, raw):
        state = super().sample(deter, raw)
        return state._replace(stoch=state.stoch.detach())
