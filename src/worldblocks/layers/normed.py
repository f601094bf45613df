"""RMSNorm, and layers that apply it: linear map -> RMSNorm -> SiLU."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks._eager import eager_on_cpu
from worldblocks.layers.fused import rms_norm_silu
from worldblocks.layers.linear import Linear, check_width


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x²) + eps) * scale` over the last axis, in float32 and cast back.

    Source: Zhang & Sennrich 2019 (arXiv:1910.07467); eps 1e-4 as in DreamerV3's released code.

    >>> [round(x, 4) for x in RMSNorm(2)(torch.tensor([3.0, 4.0])).tolist()]
    [0.8485, 1.1314]
    """

    def __init__(self, size: int, *, eps: float = 1e-4) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Normalise the last axis."""
        check_width("input of RMSNorm", x, len(self.scale))
        return F.rms_norm(x.float(), self.scale.shape, self.scale, self.eps).to(x.dtype)

    def silu(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """The norm, then SiLU; fused on a CPU."""
        if eager_on_cpu(x):
            check_width("input of RMSNorm", x, len(self.scale))
            return rms_norm_silu(x, self.scale, self.eps)
        return F.silu(self(x))


class ChannelNorm(nn.Module):
    """`RMSNorm` over the channels of each pixel of `N C H W`, then SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RMSNorm(channels)

    def forward(
        self, x: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Normalise and activate each pixel; the result is channels last in memory."""
        return self.norm.silu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Layer(nn.Module):
    """Linear map -> RMSNorm -> SiLU, `... in -> ... out`."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = Linear(in_features, out_features)
        self.norm = RMSNorm(out_features)

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch out"]:
        """Map, normalise, activate."""
        return self.activate(self.linear(x))

    def activate(self, x: Float[Tensor, "*batch out"]) -> Float[Tensor, "*batch out"]:
        """Norm and activation only, for a linear map computed in parts."""
        return self.norm.silu(x)


class MLP(nn.Sequential):
    """`layers` layers of `units` units, `... in -> ... units`."""

    def __init__(self, in_features: int, *, units: int, layers: int) -> None:
        if layers < 1:
            raise ValueError(f"an MLP needs at least 1 layer, got {layers}")
        widths = [in_features] + [units] * layers
        super().__init__(*(Layer(a, b) for a, b in itertools.pairwise(widths)))
        self.in_features, self.out_features = in_features, units
