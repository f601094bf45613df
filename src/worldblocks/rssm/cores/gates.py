"""What both gated recurrent units compute alike."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks._eager import eager_on_cpu

# On the CPU even if another default device is set when this module is imported.
_ZERO, _MINUS_ONE = torch.tensor(0.0, device="cpu"), torch.tensor(-1.0, device="cpu")


def gated_tanh(
    gate: Float[Tensor, "*shape"],
    x: Float[Tensor, "*shape"],
    out: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    """`tanh(gate x)`; written to `out`, or on a CPU without gradients, as `2 σ(2 gate x) - 1`.

    The second form takes a third of the time. Its error is one rounding error of 1.
    """
    if out is None and (torch.is_grad_enabled() or not eager_on_cpu(x)):
        return torch.tanh(gate * x)
    out = torch.addcmul(_ZERO, gate, x, value=2, out=out).sigmoid_()
    return torch.add(_MINUS_ONE, out, alpha=2, out=out)


def clip_action(action: Float[Tensor, "*batch action"]) -> Float[Tensor, "*batch action"]:
    """Each entry scaled into [-1, 1] as a constant, so that its gradient keeps the direction."""
    return action / action.detach().abs().clamp(min=1)
