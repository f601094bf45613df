"""A critic that predicts quantiles of the return (QR-DQN-0, arXiv:1710.10044)."""

import torch
from torch import nn

import worldblocks as wb
from worldblocks.distributions import Output, same_shape


class Quantiles(Output):
    """A number, by its quantiles at the fractions (i + 1/2) / n.

    nll(x) = mean over i of max(fraction[i] · error, (fraction[i] - 1) · error)
    error  = x - value[i]
    """

    tensors = ("value",)  # `*batch quantile`: sliced and detached
    own_axes = 1  # the quantiles

    def __init__(self, value):
        super().__init__()
        self.value = value.float()
        steps = torch.arange(value.shape[-1], device=value.device)
        self.fraction = (steps + 0.5) / value.shape[-1]

    @property
    def mean(self):
        """The mean of the quantiles."""
        return self.value.mean(-1)

    def nll(self, target):
        """The quantile loss of a number."""
        same_shape(self, target, self.mean)
        error = target.detach().float().unsqueeze(-1) - self.value
        return torch.maximum(self.fraction * error, (self.fraction - 1) * error).mean(-1)


class QuantileHead(nn.Module):
    """An MLP to quantiles; it first predicts exactly 0."""

    def __init__(self, feature_dim, *, units, layers, quantiles=32):
        super().__init__()
        self.mlp = wb.layers.MLP(feature_dim, units=units, layers=layers)
        self.out = wb.layers.Linear(units, quantiles, outscale=0.0)

    def forward(self, feature):
        return Quantiles(self.out(self.mlp(feature)))
