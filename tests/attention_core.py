"""A core of one's own: causal attention to the last tokens, a ring of which is its memory."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor, nn

import worldblocks as wb


class Ring(NamedTuple):
    """The tokens before this one, oldest first; zeros where there are none."""

    keys: Float[Tensor, "*batch slots width"]
    values: Float[Tensor, "*batch slots width"]
    valid: Bool[Tensor, "*batch slots"]


class PackedRing(NamedTuple):
    """A ring as replay stores it: keys beside values, and how many tokens there are."""

    tokens: Float[Tensor, "*batch slots both"]
    count: Int32[Tensor, "*batch"]


class AttentionCore(nn.Module):
    """Attention of each token, a latent and an action, to itself and the `window - 1` before it.

    With `context=0` replay stores no ring: its windows start from nothing.
    """

    def __init__(self, *, deter, stoch, action_dim, hidden, window, context=1):
        super().__init__()
        self.deter, self.hidden, self.window, self.context = deter, hidden, window, context
        self.action = wb.layers.Linear(action_dim, hidden)
        self.latent = wb.layers.Linear(stoch, hidden)
        self.attention = nn.Sequential(nn.SiLU(), wb.layers.Linear(hidden, 3 * hidden))
        self.age = nn.Parameter(torch.zeros(window))  # how much each slot is attended to as such
        self.out = wb.layers.Layer(2 * hidden, deter)

    def initial(self, batch):
        empty = self.age.new_zeros(batch, self.window - 1, self.hidden)
        return Ring(empty, empty.clone(), empty.new_zeros(empty.shape[:-1], dtype=torch.bool))

    def project_action(self, action):
        return self.action(action)

    def step(self, memory, stoch, projected):
        token = self.latent(stoch) + projected
        query, *newest = self.attention(token).chunk(3, -1)
        ring = self.extended(memory, *(x[:, None] for x in newest))
        return self.read(token, query, ring), Ring(*(x[:, 1:] for x in ring))

    def scan(self, memory, stoch, projected, is_first):
        token = self.latent(stoch) + projected
        query, *newest = self.attention(token).chunk(3, -1)
        ring = self.extended(memory, *newest)
        rings = Ring(*(x.unfold(1, self.window, 1) for x in ring))  # the slots come last
        episode = nn.functional.pad(is_first.cumsum(1), (self.window - 1, 0))
        windows = episode.unfold(1, self.window, 1)
        valid = rings.valid & (windows == windows[..., -1:])
        there = valid[..., None]
        keys, values = (torch.where(there, x.mT, 0.0) for x in rings[:2])
        rings = Ring(keys, values, valid)
        return self.read(token, query, rings), Ring(*(x[:, :, 1:] for x in rings))

    def extended(self, memory, keys, values):
        """The ring and the tokens after it, along one axis."""
        valid = torch.ones_like(keys[..., 0], dtype=torch.bool)
        pairs = zip(memory, (keys, values, valid), strict=True)
        return Ring(*(torch.cat([old, new.to(old.dtype)], 1) for old, new in pairs))

    def read(self, token, query, ring):
        """The deterministic state: what the token finds in a ring that ends with itself."""
        match = (ring.keys @ query[..., None].to(ring.keys.dtype)).squeeze(-1)
        match = match / self.hidden**0.5 + self.age
        weight = match.masked_fill(~ring.valid, -torch.inf).softmax(-1)
        found = (weight[..., None, :].to(ring.values.dtype) @ ring.values).squeeze(-2)
        return self.out(torch.cat([found, token.to(found.dtype)], -1))

    def pack(self, memory):
        count = memory.valid.sum(-1, dtype=torch.int32)
        return PackedRing(torch.cat([memory.keys, memory.values], -1), count)

    def unpack(self, packed):
        back = torch.arange(self.window - 1, 0, -1, device=packed.count.device)  # rows ago
        return Ring(*packed.tokens.chunk(2, -1), back <= packed.count[..., None])


def attention_rssm(
    *, window, context=1, embed_dim, action_dim, deter, hidden, recompute=0, **sizes
):
    """Its sizes are those of `dreamer_rssm`, without blocks: a line swaps it into a recipe."""
    stoch, width = sizes["groups"] * sizes["classes"], {"deter": deter, "hidden": hidden}
    options = {"action_dim": action_dim, "window": window, "context": context}
    core = AttentionCore(stoch=stoch, **width, **options)
    latent = wb.rssm.CategoricalLatent(embed_dim=embed_dim, **width, **sizes, absolute=True)
    return wb.rssm.RSSM(core, latent, recompute=recompute)
