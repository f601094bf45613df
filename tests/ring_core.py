"""A core that remembers more than its deterministic state: a ring of the last tokens."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

import worldblocks as wb


class Ring(NamedTuple):
    """The last tokens, the newest at the end, and which of them are there."""

    token: Float[Tensor, "*batch token hidden"]
    valid: Bool[Tensor, "*batch token"]


class RingCore(nn.Module):
    """Each token attends to itself and to the `reach - 1` tokens before it in its episode.

    A token is of the latent and the action that led to a row.
    """

    def __init__(self, *, deter, stoch, action_dim, hidden, reach):
        super().__init__()
        self.deter, self.hidden, self.reach = deter, hidden, reach
        self.from_stoch = nn.Linear(stoch, hidden)
        self.from_action = nn.Linear(action_dim, hidden)
        self.query = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, deter)

    def initial(self, batch):
        token = self.out.weight.new_zeros(batch, self.reach - 1, self.hidden)
        return Ring(token, token[..., 0] != 0)

    def project_action(self, action):
        return self.from_action(action)

    def step(self, memory, stoch, projected):
        new = torch.tanh(self.from_stoch(stoch) + projected).unsqueeze(1)
        token = torch.cat([memory.token.to(new.dtype), new], 1)
        valid = torch.cat([memory.valid, torch.ones_like(memory.valid[:, :1])], 1)
        return self.attend(token, valid), Ring(token[:, 1:], valid[:, 1:])

    def attend(self, token, valid):
        """What the newest of some tokens `*batch token hidden` finds among those that are there."""
        score = (token @ self.query(token[..., -1, :]).unsqueeze(-1)).squeeze(-1)
        weight = torch.where(valid, score, -torch.inf).softmax(-1).to(token.dtype)
        return torch.tanh(self.out((weight.unsqueeze(-2) @ token).squeeze(-2)))


class ScanningCore(RingCore):
    """The same, for all rows of a window at once; none sees tokens of another episode."""

    def scan(self, memory, stoch, projected, is_first):
        old, time = self.reach - 1, is_first.shape[1]
        new = torch.tanh(self.from_stoch(stoch) + projected)
        token = torch.cat([memory.token.to(new.dtype), new], 1)
        there = torch.cat([memory.valid, torch.ones_like(is_first)], 1)
        episode = torch.cat([torch.zeros_like(memory.valid).long(), is_first.cumsum(1)], 1)
        # Row t has the tokens t … t + old, itself the last.
        rows = torch.arange(time).unsqueeze(1) + torch.arange(self.reach)
        rows = rows.to(token.device)
        valid = there[:, rows] & (episode[:, rows] == episode[:, old:].unsqueeze(-1))
        token = torch.where(valid.unsqueeze(-1), token[:, rows], 0.0)
        return self.attend(token, valid), Ring(token[:, :, 1:], valid[:, :, 1:])


class Forgetful(RingCore):
    """The same, for windows of replay that start from nothing: its memory is not stored."""

    context = 0


def ring_rssm(core, *, blocks, groups, classes, unimix, recompute=0, **sizes):
    """In place of `dreamer_rssm`, with its sizes: one of these cores and a decoupled posterior."""
    width = {"deter": sizes["deter"], "hidden": sizes["hidden"]}
    part = core(**width, stoch=groups * classes, action_dim=sizes["action_dim"], reach=3)
    latent = wb.rssm.CategoricalLatent(
        **width, embed_dim=sizes["embed_dim"], groups=groups, classes=classes, absolute=True
    )
    return wb.rssm.RSSM(part, latent, recompute=recompute)
