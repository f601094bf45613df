"""The block GRU: the deterministic transition of DreamerV3."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.layers import BlockLinear, Layer, RMSNorm, check_width
from worldblocks.rssm.cores.gates import clip_action, gated_tanh


class BlockGRU(nn.Module):
    """A gated recurrent unit whose state is split into blocks.

    Every block sees its own part of the state and shared projections of the whole state, the
    stochastic part and the action; the projection of the state is what mixes the blocks.

        x       = [deter block g, layer(deter), layer(stoch), layer(action / max(1, |action|))]
        h       = silu(RMSNorm(BlockLinear(x)))            norm over the whole width
        r, c, u = BlockLinear(h)                           split within each block
        deter'  = σ(u - 1) tanh(σ(r) c) + (1 - σ(u - 1)) deter

    The reset gate multiplies the candidate's pre-activation; the update gate starts near 0.27.

    Args:
        deter: width of the state.
        stoch: width of the flattened stochastic part.
        action_dim: width of the action vector.
        hidden: width of each shared projection.
        blocks: how many blocks `deter` splits into.
        layers: block-linear layers before the gates.

    Source: DreamerV3, appendix B (block-diagonal recurrent weights), and its released code.
    """

    def __init__(
        self, *, deter: int, stoch: int, action_dim: int, hidden: int, blocks: int, layers: int = 1
    ) -> None:
        super().__init__()
        if deter % blocks:
            raise ValueError(f"BlockGRU needs deter divisible by {blocks} blocks, got {deter}")
        if layers < 1:
            raise ValueError(f"BlockGRU needs at least 1 layer before its gates, got {layers}")
        self.deter, self.action_dim, self.blocks = deter, action_dim, blocks
        self.from_deter = Layer(deter, hidden)
        self.from_stoch = Layer(stoch, hidden)
        self.from_action = Layer(action_dim, hidden)
        widths = [deter + 3 * hidden * blocks] + [deter] * (layers - 1)
        self.hidden = nn.ModuleList(BlockLinear(width, deter, blocks=blocks) for width in widths)
        self.norms = nn.ModuleList(RMSNorm(deter) for _ in widths)
        self.gates = BlockLinear(deter, 3 * deter, blocks=blocks)

    def initial(self, batch: int) -> Float[Tensor, "batch deter"]:
        """Zeros."""
        return next(self.parameters()).new_zeros(batch, self.deter)

    def project_action(
        self, action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch hidden"]:
        """Project actions; this does not depend on the state, so whole sequences in one call.

        Each entry is scaled into [-1, 1] as a constant, so that its gradient keeps the direction.
        """
        check_width("action", action, self.action_dim)
        return self.from_action(clip_action(action))

    def step(
        self,
        memory: Float[Tensor, "batch deter"],
        stoch: Float[Tensor, "batch stoch"],
        projected: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch deter"], Float[Tensor, "batch deter"]]:
        """The state after a projected action, without shape checks: the body of a time loop."""
        # What every block of `hidden[0]` sees beside its own block of the state.
        shared = torch.cat([self.from_deter(memory), self.from_stoch(stoch), projected], -1)
        h = self.norms[0].silu(self.hidden[0](memory, shared))  # type: ignore[operator]
        for layer, norm in zip(self.hidden[1:], self.norms[1:], strict=True):
            h = norm.silu(layer(h))  # type: ignore[operator]
        gates = "batch blocks (gate part) -> gate batch blocks part"
        reset, candidate, update = rearrange(self.gates.by_block(h), gates, gate=3)
        candidate = gated_tanh(torch.sigmoid(reset), candidate)
        old = rearrange(memory, "batch (blocks part) -> batch blocks part", blocks=self.blocks)
        new = torch.lerp(old.to(candidate.dtype), candidate, torch.sigmoid(update - 1))
        new = rearrange(new, "batch blocks part -> batch (blocks part)")
        return new, new
