"""Scalar transforms: symlog, symexp, a learnable symlog, symexp bins, and the two-hot encoding.

All but the learnable symlog are from DreamerV3 (Hafner et al. 2023, arXiv:2301.04104). The two-hot
encoding is in raw value space as in the authors' released code, not in symlog space as in the
paper's first version.
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn, relu

from worldblocks.typing import typed


@typed
def symlog(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Compress large magnitudes, symmetrically: `symlog(x) = sign(x) ln(|x| + 1)`.

    Source: DreamerV3, equation 9.

    >>> [round(x, 4) for x in symlog(torch.tensor([0.0, 1.7182818, -1.7182818])).tolist()]
    [0.0, 1.0, -1.0]
    """
    # Two halves instead of a sign, so that the derivative at 0 is 1 and not 0.
    return x.clamp(min=0).log1p() - relu(-x).log1p()


@typed
def symexp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The inverse of `symlog`: `symexp(x) = sign(x) (exp(|x|) - 1)`.

    Source: DreamerV3, equation 9.

    >>> [round(x, 4) for x in symexp(torch.tensor([0.0, 1.0, -1.0])).tolist()]
    [0.0, 1.7183, -1.7183]
    """
    return x.clamp(min=0).expm1() - relu(-x).expm1()


class LearnableSymlog(nn.Module):
    """A symlog with learnable scale and offset: increasing and exactly invertible.

        f(x) = symlog(a x + b)        f⁻¹(y) = (symexp(y) - b) / a        a = exp(log_scale) > 0

    Within 1 / a of its zero at -b / a the function is nearly linear with slope a. Further out it is
    logarithmic. It starts as `symlog` itself: a = 1, b = 0. The offset is in units of 1 / a, so
    that numbers k times as large are learned in the same number of steps. Computed in float32, so
    a |x| may be at most 3e38.

    Args:
        shape: shape of scale and offset, one pair for each entry of the last axes; () shares one.

    Source: ours; DreamerV3, equation 9 for the initial function.

    >>> transform = LearnableSymlog()
    >>> _ = transform.offset.data.fill_(-5.0)
    >>> [round(y, 4) for y in transform(torch.tensor([5.0, 6.0, 5 - 1.7182818])).tolist()]
    [0.0, 0.6931, -1.0]
    """

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.offset = nn.Parameter(torch.zeros(shape))

    @property
    def scale(self) -> Float32[Tensor, "*event"]:
        """The slope a at the zero of the function."""
        return self.log_scale.float().exp()

    @typed
    def forward(self, x: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Apply the transform."""
        return symlog(self._scaled(x))

    @typed
    def inverse(self, y: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """Invert the transform."""
        self._check("inverse", y)
        return (symexp(y.float()) - self.offset.float()) / self.scale

    @typed
    def log_derivative(self, x: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """`ln f'(x) = ln a - ln(1 + |a x + b|)`, which turns a density of f(x) into one of x."""
        return self.log_scale.float() - self._scaled(x).abs().log1p()

    def _scaled(self, x: Tensor) -> Tensor:
        self._check("forward", x)
        return self.scale * x.float() + self.offset.float()

    def _check(self, what: str, x: Tensor) -> None:
        event = self.offset.shape
        if x.shape[x.ndim - len(event) :] != event:
            raise ValueError(
                f"LearnableSymlog.{what} takes numbers `*batch {' '.join(map(str, event))}`, got "
                f"shape {tuple(x.shape)}"
            )


def symexp_bins(n: int) -> Float[Tensor, " bins"]:
    """`n` bins for a two-hot: `symexp` of a uniform grid over [-20, 20], exactly antisymmetric.

    With an odd `n` the middle bin is 0; with an even `n` the two middle bins are 0. The positive
    half mirrors the negative half, so that a uniform distribution has mean exactly 0.

    Source: DreamerV3, equation 10 (255 bins).

    >>> [round(bin, 2) for bin in symexp_bins(5).tolist()]
    [-485165184.0, -22025.46, 0.0, 22025.46, 485165184.0]
    """
    if n < 2:
        raise ValueError(f"symexp_bins needs at least 2 bins, got {n}")
    # Computed in float64 and rounded once, so that each bin is the nearest float32 number.
    half = symexp(torch.linspace(-20, 0, (n + 1) // 2, dtype=torch.float64)).float()
    return torch.cat([half, -half.flip(0)[n % 2 :]])


@typed
def two_hot(
    x: Float[Tensor, "*shape"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*shape bins"]:
    """Distribute each value over its two nearest bins so that the mean is the value.

    With `bins[k] <= x <= bins[k + 1]`, `w[k + 1] = (x - bins[k]) / (bins[k + 1] - bins[k])` and
    `w[k] = 1 - w[k + 1]`. Values outside the range get the end bin; a value equal to a bin gets
    that bin alone. The result is float32. A NaN gives NaN weights.

    Source: DreamerV3, section "Critic learning"; Bellemare et al. 2017 for the projection.

    Raises:
        ValueError: fewer than 2 bins, or bins that do not ascend (checked in eager mode only).

    >>> two_hot(torch.tensor([0.25, 9.0]), torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [[0.0, 0.75, 0.25], [0.0, 0.0, 1.0]]
    """
    if len(bins) < 2 or not (_in_graph() or bool((bins.diff() >= 0).all())):
        raise ValueError(f"two_hot takes at least 2 bins that ascend, got {_shown(bins)}")
    below, weight = two_hot_indices(x, bins)
    target = x.new_zeros((*x.shape, len(bins)), dtype=torch.float32)
    target.scatter_(-1, below.unsqueeze(-1), (1 - weight).unsqueeze(-1))
    return target.scatter_add_(-1, (below + 1).unsqueeze(-1), weight.unsqueeze(-1))


def two_hot_indices(
    x: Float[Tensor, "*shape"], bins: Float[Tensor, " bins"]
) -> tuple[Int64[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The index k of the lower bin of each value, and the float32 weight of bin k + 1."""
    x, bins = x.float(), bins.float()
    below = (torch.searchsorted(bins, x.detach().contiguous(), right=True) - 1).clamp(
        0, len(bins) - 2
    )
    low, high = bins[below], bins[below + 1]
    to_low, to_high = (x - low).abs(), (high - x).abs()
    # Beyond the ends the projection is the end bin, whatever the distances.
    weight = torch.where(x >= high, 1.0, torch.where(x <= low, 0.0, to_low / (to_low + to_high)))
    return below, torch.where(x.isnan(), x, weight)


@typed
def two_hot_mean(
    probs: Float[Tensor, "*shape bins"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*shape"]:
    """Mean of a distribution over bins, `sum(probs * bins)`, summed symmetrically about the centre.

    Bins reach ±4.9e8, so a plain float32 sum over uniform probabilities is off by whole numbers.
    Adding mirrored bins first is exact for a symmetric distribution.

    Source: DreamerV3, section "Critic learning".

    Raises:
        ValueError: a row does not sum to 1 (logits instead of probabilities?). Not checked inside
            a compiled or captured graph, where nothing is read back to the host.

    >>> two_hot_mean(torch.full((255,), 1 / 255), symexp_bins(255)).item()
    0.0
    """
    if not _in_graph():
        total = probs.detach().float().sum(-1)
        worst = (total - 1).abs().max().item() if total.numel() else 0.0
        if not worst < 1e-3 + 1e-2 * (probs.dtype != torch.float32):
            raise ValueError(
                f"two_hot_mean takes probabilities, whose rows sum to 1; a row is off by "
                f"{worst:.3g} (use logits.softmax(-1))"
            )
    return symmetric_mean(probs, bins)


def symmetric_mean(
    probs: Float[Tensor, "*shape bins"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*shape"]:
    """`two_hot_mean` without its check, for rows known to sum to 1."""
    n, half = len(bins), len(bins) // 2
    probs = probs.to(torch.promote_types(probs.dtype, bins.dtype))
    # In place: on a CPU, allocating this much memory takes longer than multiplying it.
    low = probs[..., :half].flip(-1).mul_(bins[:half].flip(0))
    pairs = (probs[..., n - half :] * bins[n - half :]).add_(low).sum(-1)
    return pairs + probs[..., half] * bins[half] if n % 2 else pairs


def _shown(bins: Tensor) -> str:
    first = ", ".join(f"{value:.3g}" for value in bins[:4].tolist())
    return f"[{first}{', …' if len(bins) > 4 else ''}]"


def _in_graph() -> bool:
    if torch.compiler.is_compiling():  # asked first: a compiler cannot trace the rest
        return True
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
