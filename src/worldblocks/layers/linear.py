"""Linear maps and their initialisation."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks._wrong_call import as_tensor, described


@torch.no_grad()
def init_trunc_normal(weight: Float[Tensor, "..."], fan_in: int, outscale: float = 1.0) -> None:
    """Fill with a truncated normal of standard deviation `outscale / sqrt(fan_in)`.

    Truncating a unit normal at ±2 shrinks its standard deviation to 1 / 1.1368. This is corrected,
    so that |w| <= 2.27 outscale / sqrt(fan_in).

    Source: the authors' released code (`trunc_normal_in`).
    """
    nn.init.trunc_normal_(weight, std=1.0, a=-2.0, b=2.0)
    weight.mul_(1.1368 * outscale / math.sqrt(fan_in))


class Linear(nn.Linear):
    """A linear map with bias, `... in -> ... out`; `outscale` multiplies the initial kernel."""

    def __init__(self, in_features: int, out_features: int, *, outscale: float = 1.0) -> None:
        self.outscale = outscale
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Initialise the kernel, zero the bias."""
        init_trunc_normal(self.weight, self.in_features, self.outscale)
        nn.init.zeros_(self.bias)

    def forward(self, input: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch out"]:
        """Map the last axis."""
        check_width("input of Linear", input, self.in_features)
        return super().forward(input)


class MirroredLinear(Linear):
    """A linear map to bins that are symmetric about 0: mirrored outputs are computed alike.

    Output k and its mirror image k' = n - 1 - k are the difference and the sum of an even and an
    odd part. If their weights are equal, the outputs are equal to the bit. If the gradients of the
    outputs are equal too, so are the gradients of the weights:

        even_k = (w_k' + w_k) x / 2      odd_k = (w_k' - w_k) x / 2
        y_k = even_k - odd_k             y_k' = even_k + odd_k

    A plain linear map does not guarantee this, because matrix products and bias gradients sum the
    last of an odd number of columns in another order. With bins of ±4.9e8, a difference of one unit
    in the last place moves a mean by whole numbers. The parameters are those of `Linear`. The
    output is float32.

    Source: ours.

    >>> layer = MirroredLinear(2, 3, outscale=0.0)
    >>> _ = layer.weight.data.copy_(torch.tensor([[1.0, 2.0], [0.0, 5.0], [3.0, 4.0]]))
    >>> layer(torch.ones(2)).tolist()
    [3.0, 5.0, 7.0]
    """

    def forward(self, input: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch out"]:
        """Map the last axis."""
        check_width("input of MirroredLinear", input, self.in_features)
        half = self.out_features // 2
        parts = F.linear(input, _even_and_odd(self.weight), _even_and_odd(self.bias)).float()
        even, centre, odd = parts.split([half, self.out_features % 2, half], -1)
        return torch.cat([even - odd, centre, (even + odd).flip(-1)], -1)


def _even_and_odd(rows: Float[Tensor, "out ..."]) -> Float[Tensor, "out ..."]:
    """The even parts of all mirrored pairs of rows, the centre row if any, the odd parts."""
    half = len(rows) // 2
    low, centre, high = rows.split([half, len(rows) % 2, half])
    high = high.flip(0)
    return torch.cat([0.5 * (high + low), centre, 0.5 * (high - low)])


class BlockLinear(nn.Module):
    """A block-diagonal linear map: each of `blocks` groups of inputs has its own outputs.

        y[g] = [x[g], shared] W[g] + b[g]          in block g; most maps have no shared inputs

    The weight is one parameter `blocks in/blocks out/blocks`. Its initialisation uses the whole
    input width as fan-in, not that of a block, so weights are smaller by a factor sqrt(blocks).

    Args:
        in_features: inputs of all blocks; shared inputs count once for each block.
        out_features: outputs of all blocks.
        blocks: number of blocks.
        outscale: multiplies the initial kernel.

    Source: the authors' released code (`BlockLinear`).

    >>> layer = BlockLinear(4, 2, blocks=2)
    >>> _ = layer.weight.data.copy_(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]))
    >>> layer(torch.tensor([1.0, 10.0, 1.0, 10.0])).tolist()
    [21.0, 43.0]
    >>> layer(torch.tensor([[1.0, 1.0]]), torch.tensor([[10.0]])).tolist()
    [[21.0, 43.0]]
    """

    def __init__(self, in_features: int, out_features: int, *, blocks: int, outscale: float = 1.0):
        super().__init__()
        for name, width in (("in_features", in_features), ("out_features", out_features)):
            if width % blocks:
                raise ValueError(
                    f"BlockLinear needs {name} divisible by {blocks} blocks, got {width}"
                )
        self.blocks = blocks
        self.weight = nn.Parameter(
            torch.empty(blocks, in_features // blocks, out_features // blocks)
        )
        self.bias = nn.Parameter(torch.zeros(out_features))
        init_trunc_normal(self.weight, in_features, outscale)

    def forward(
        self,
        x: Float[Tensor, "*batch feature"],
        shared: Float[Tensor, "*batch shared"] | None = None,
    ) -> Float[Tensor, "*batch out"]:
        """Map each group of features with its own block, which also sees the shared features."""
        return self.by_block(x, shared).flatten(-2)

    def by_block(
        self,
        x: Float[Tensor, "*batch feature"],
        shared: Float[Tensor, "*batch shared"] | None = None,
    ) -> Float[Tensor, "*batch blocks part"]:
        """`forward` before it joins the blocks, which may copy them."""
        if not x.is_floating_point():
            raise TypeError(f"BlockLinear takes floats, got an input of {x.dtype}")
        if shared is None:
            check_width("input of BlockLinear", x, self.blocks * self.weight.shape[1])
            parts = x.reshape(-1, self.blocks, self.weight.shape[1]).transpose(0, 1)
            bias = self.bias.to(x.dtype).view(self.blocks, 1, -1)
            out = torch.baddbmm(bias, parts, self.weight.to(x.dtype)).transpose(0, 1)
            return out.reshape(*x.shape[:-1], *out.shape[1:])
        if shared.shape[:-1] != x.shape[:-1] or shared.shape[-1] >= self.weight.shape[1]:
            raise ValueError(
                f"BlockLinear takes fewer than {self.weight.shape[1]} shared features, with the "
                f"batch axes of its input, got shape {tuple(shared.shape)} for an input "
                f"{tuple(x.shape)}"
            )
        widths = self.weight.shape[1] - shared.shape[-1], shared.shape[-1]
        what = f"input of BlockLinear beside {widths[1]} shared features"
        check_width(what, x, self.blocks * widths[0])
        own, rest = self.weight.split(widths, 1)
        # One product of the shared features for all blocks, without a copy of them for each.
        rest = rearrange(rest, "blocks shared part -> shared (blocks part)")
        out = F.linear(shared, rest.mT, self.bias).unflatten(-1, (self.blocks, -1))
        parts = x.reshape(-1, self.blocks, widths[0]).transpose(0, 1)
        product = torch.bmm(parts.to(out.dtype), own).transpose(0, 1)
        # A sum is laid out in memory as its first term, whose blocks are joined without a copy.
        return out + product.reshape(out.shape)


def check_width(what: str, x: Float[Tensor, "..."], width: int) -> None:
    """Raise unless the last axis has the given width."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} should be a float tensor, got {described(x)}; {as_tensor(x, 'x')}")
    if not x.ndim or x.shape[-1] != width:
        raise ValueError(
            f"{what} should be {width} wide (last axis), got shape {tuple(x.shape)}; make "
            f"the block for this width, or give vectors of {width} numbers"
        )
