"""Heads that predict numbers."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks import distributions as dists
from worldblocks._wrong_call import described
from worldblocks.layers import MLP, Linear, MirroredLinear, check_width
from worldblocks.transforms import LearnableSymlog, symexp_bins
from worldblocks.typing import typed


class TwoHotHead(nn.Module):
    """Predicts a number of any magnitude: an MLP to a categorical over symexp bins.

    `outscale` scales the initial kernel of the last layer; with the default of 0 the head first
    predicts exactly 0. Bins that no target has reached keep the same weights as their mirror
    images, to the bit (`MirroredLinear`). Otherwise bins of ±4.9e8 would move the mean by whole
    numbers.

    Source: DreamerV3, section "Critic learning"; reward head (1 layer) and critic (3 layers).
    """

    bins: Tensor

    def __init__(
        self, feature_dim: int, *, units: int, layers: int, bins: int = 255, outscale: float = 0.0
    ) -> None:
        super().__init__()
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.out = MirroredLinear(units, bins, outscale=outscale)
        self.register_buffer("bins", symexp_bins(bins), persistent=False)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.TwoHot:
        """Predict one number for each feature vector."""
        check_width("feature", feature, self.mlp.in_features)
        return dists.TwoHot(self.out(self.mlp(feature)), self.bins)


class SymlogHead(nn.Module):
    """Predicts a number of any magnitude: an MLP to a normal in the space of a symlog.

    `nll` is a squared error in symlog space and the log-derivative of the transform
    (`TransformedNormal`), so that its scale and offset adapt to the magnitude of the targets. The
    standard deviation is 1: the scale of the transform expresses how precise the prediction is.
    `mean` is the median, exactly 0 at first.

    Args:
        feature_dim: width of the feature vector.
        units, layers: width and depth of the MLP.
        transform: from numbers to the space of the normal; a new `LearnableSymlog` if None.
        outscale: scale of the initial kernel of the last layer.

    Source: ours; the first version of DreamerV3 for the squared error in symlog space.
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        units: int,
        layers: int,
        transform: LearnableSymlog | None = None,
        outscale: float = 0.0,
    ) -> None:
        super().__init__()
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.out = Linear(units, 1, outscale=outscale)
        self.transform = LearnableSymlog() if transform is None else transform

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.TransformedNormal:
        """Predict one number for each feature vector."""
        check_width("feature", feature, self.mlp.in_features)
        mean = self.out(self.mlp(feature)).squeeze(-1)
        return dists.TransformedNormal(mean, torch.ones_like(mean), self.transform)


class NormalHead(nn.Module):
    """Predicts a vector with a bounded standard deviation: an MLP to a `BoundedNormal`.

    Source: the continuous actor of DreamerV3's released code (`bounded_normal`).
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        size: int,
        units: int,
        layers: int,
        low: float = 0.1,
        high: float = 1.0,
        outscale: float = 1.0,
    ) -> None:
        super().__init__()
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.mean = Linear(units, size, outscale=outscale)
        self.std = Linear(units, size, outscale=outscale)
        self.low, self.high = low, high

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.BoundedNormal:
        """Predict a vector for each feature vector; `nll` sums over it."""
        check_width("feature", feature, self.mlp.in_features)
        hidden = self.mlp(feature)
        mean, std = self.mean(hidden), self.std(hidden)
        return dists.BoundedNormal(mean, std, low=self.low, high=self.high, event=1)


class FeatureHead(nn.Module):
    """Predicts named features of the world: numbers such as a height, and bits.

    Features are stored as targets only and never observed. From their predictions, any reward that
    is a function of them can be computed in imagination without a reward head. Numbers are
    regressed in units of half their range, so that a speed of 10 and a height of 0.1 both count.
    Bits have a cross-entropy.

    Args:
        feature_dim: width of the feature vector.
        ranges: for each feature (`describer.ranges`) its lowest and highest usual value, and
            whether it is a bit, always 0 or 1 (`wb.envs.Feature`).
        units, layers: width and depth of the MLP.

    Raises:
        ValueError: `ranges` is empty.

    Source: ours; the vector decoder of DreamerV3 on features of the state.

    >>> head = FeatureHead(4, {"speed": (-6.0, 10.0, False)}, units=3, layers=1)
    >>> head(torch.zeros(5, 4)).mean["speed"].shape
    torch.Size([5])
    """

    def __init__(
        self,
        feature_dim: int,
        ranges: Mapping[str, tuple[float, float, bool]],
        *,
        units: int,
        layers: int,
    ) -> None:
        super().__init__()
        if not isinstance(ranges, Mapping):
            raise TypeError(
                f"FeatureHead takes ranges by name, such as {{'speed': (-1.0, 1.0, False)}}, got "
                f"{described(ranges)}; a describer has them as its `ranges`"
            )
        if not ranges:
            raise ValueError("FeatureHead needs at least one feature, got none")
        self.ranges = dict(ranges)
        self.numbers = sum(not bit for _, _, bit in ranges.values())
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.out = Linear(units, len(ranges))

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.Features:
        """Predict the features for each feature vector of the model."""
        check_width("feature", feature, self.mlp.in_features)
        raw = self.out(self.mlp(feature)).float()
        return dists.Features(raw[..., : self.numbers], raw[..., self.numbers :], self.ranges)
