"""A policy that chooses one of a few values for each number of an action (arXiv:1901.10500)."""

import torch
from torch import nn

import worldblocks as wb
from worldblocks.distributions import Joint, OneHot, Output, same_shape, sum_event
from worldblocks.spaces import Discrete


class Bins(Output):
    """Numbers, each of which is one of n values from -1 to 1."""

    tensors = ("logits",)  # `*batch *event bin`: sliced and detached
    own_axes = 1  # the bins

    def __init__(self, logits, event=0):
        super().__init__(event)
        self.logits = logits.float().log_softmax(-1)
        self.bins = torch.linspace(-1, 1, logits.shape[-1], device=logits.device)

    @property
    def probs(self):
        return self.logits.exp()

    @property
    def mean(self):
        return (self.probs * self.bins).sum(-1)

    @property
    def mode(self):
        return self.bins[self.logits.argmax(-1)]

    def sample(self, noise=None):
        return (OneHot(self.logits).sample(noise) * self.bins).sum(-1)

    def log_prob(self, x):
        same_shape(self, x, self.mean)
        last = len(self.bins) - 1
        nearest = ((x.float() + 1) / 2 * last).round().clamp(0, last).long()
        return sum_event(self.logits.gather(-1, nearest.unsqueeze(-1)).squeeze(-1), self.event)

    def nll(self, target):
        return -self.log_prob(target.detach())

    def entropy(self):
        return -sum_event((self.probs * self.logits).sum(-1), self.event)


class BinnedActor(nn.Module):
    """In place of `ActorHead`: bins for continuous actions, categoricals for discrete ones."""

    def __init__(self, feature_dim, actions, *, units, layers, bins=11):
        super().__init__()
        self.actions = {key: actions[key] for key in sorted(actions)}
        self.mlp = wb.layers.MLP(feature_dim, units=units, layers=layers)
        self.outs = nn.ModuleList()
        for space in self.actions.values():
            values = space.size if isinstance(space, Discrete) else space.size * bins
            self.outs.append(wb.layers.Linear(units, values, outscale=0.01))

    def forward(self, feature):
        hidden, parts = self.mlp(feature), {}
        for (key, space), out in zip(self.actions.items(), self.outs, strict=True):
            logits = out(hidden).unflatten(-1, (*space.shape, -1))
            kind = OneHot if isinstance(space, Discrete) else Bins
            parts[key] = kind(logits, event=len(space.shape))
        return Joint(parts)
