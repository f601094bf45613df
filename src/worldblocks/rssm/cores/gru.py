"""The GRU of PlaNet and of DreamerV1 and V2."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks.layers import Layer, Linear, RMSNorm, check_width
from worldblocks.rssm.cores.gates import clip_action, gated_tanh


class GRU(nn.Module):
    """A gated recurrent unit with one input layer and a norm on its gates.

        x       = silu(RMSNorm(linear([stoch, action / max(1, |action|)])))
        r, c, u = norm(linear([deter, x]))                 one norm over all three
        deter'  = σ(u - 1) tanh(σ(r) c) + (1 - σ(u - 1)) deter

    The reset gate multiplies the candidate's pre-activation; the update gate starts near 0.27.

    Args:
        deter: width of the state.
        stoch: width of the flattened stochastic part.
        action_dim: width of the action vector.
        hidden: width of the input layer.
        norm: of the `3 * deter` pre-activations of the gates; `nn.LayerNorm(3 * deter)` is
            DreamerV2's, `nn.Identity()` the plain cell of PlaNet and DreamerV1. Default: RMSNorm.

    Source: DreamerV2 (arXiv:2010.02193) and its released code; DreamerV3 before the block GRU.
    """

    def __init__(
        self, *, deter: int, stoch: int, action_dim: int, hidden: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.deter, self.stoch, self.action_dim = deter, stoch, action_dim
        self.input = Layer(stoch + action_dim, hidden)
        self.gates = Linear(deter + hidden, 3 * deter)
        self.norm = RMSNorm(3 * deter) if norm is None else norm

    def initial(self, batch: int) -> Float[Tensor, "batch deter"]:
        """Zeros."""
        return next(self.parameters()).new_zeros(batch, self.deter)

    def project_action(
        self, action: Float[Tensor, "*batch action"]
    ) -> Float[Tensor, "*batch hidden"]:
        """Project actions by the input layer, bias included: whole sequences in one call.

        Each entry is scaled into [-1, 1] as a constant, so that its gradient keeps the direction.
        """
        check_width("action", action, self.action_dim)
        linear = self.input.linear
        return nn.functional.linear(
            clip_action(action), linear.weight[:, self.stoch :], linear.bias
        )

    def step(
        self,
        memory: Float[Tensor, "batch deter"],
        stoch: Float[Tensor, "batch stoch"],
        projected: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch deter"], Float[Tensor, "batch deter"]]:
        """The state after a projected action, without shape checks: the body of a time loop."""
        seen = nn.functional.linear(stoch, self.input.linear.weight[:, : self.stoch])
        x = self.input.activate(seen + projected)
        gates = self.gates(torch.cat([memory.to(x.dtype), x], -1))
        reset, candidate, update = self.norm(gates).to(gates.dtype).chunk(3, -1)
        candidate = gated_tanh(torch.sigmoid(reset), candidate)
        new = torch.lerp(memory.to(candidate.dtype), candidate, torch.sigmoid(update - 1))
        return new, new
