"""An LSTM as the core of a recurrent state-space model."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

import worldblocks as wb


class Memory(NamedTuple):
    """What the LSTM remembers."""

    hidden: Float[Tensor, "*batch deter"]
    cell: Float[Tensor, "*batch deter"]


class LSTM(nn.Module):
    """The protocol `wb.rssm.Core`: `deter`, `initial`, `project_action` and `step`."""

    def __init__(self, *, deter, stoch, action_dim):
        super().__init__()
        self.deter = deter
        self.action = wb.layers.Linear(action_dim, 4 * deter)
        self.gates = wb.layers.Linear(stoch + deter, 4 * deter)

    def initial(self, batch):
        nothing = self.gates.weight.new_zeros(batch, self.deter)
        return Memory(nothing, nothing.clone())

    def project_action(self, action):
        return self.action(action)

    def step(self, memory, stoch, projected):
        gates = self.gates(torch.cat([stoch, memory.hidden], -1)) + projected
        write, keep, read, new = gates.chunk(4, -1)
        cell = torch.sigmoid(keep + 1) * memory.cell + torch.sigmoid(write) * torch.tanh(new)
        deter = torch.sigmoid(read) * torch.tanh(cell)
        return deter, Memory(deter, cell)


def lstm_rssm(*, deter, groups, classes, action_dim, recompute, **sizes):
    """The arguments of `dreamer_rssm` without `blocks`."""
    core = LSTM(deter=deter, stoch=groups * classes, action_dim=action_dim)
    latent = wb.rssm.CategoricalLatent(deter=deter, groups=groups, classes=classes, **sizes)
    return wb.rssm.RSSM(core, latent, recompute=recompute)
