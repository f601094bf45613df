"""Heads that predict a probability or categories."""

from jaxtyping import Float
from torch import Tensor, nn

from worldblocks import distributions as dists
from worldblocks.layers import MLP, Linear, check_width
from worldblocks.typing import typed


class BinaryHead(nn.Module):
    """Predicts a probability, for example that the episode continues: an MLP to one logit.

    Source: DreamerV3, the continue predictor (1 layer).
    """

    def __init__(self, feature_dim: int, *, units: int, layers: int, outscale: float = 1.0) -> None:
        super().__init__()
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.out = Linear(units, 1, outscale=outscale)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.Bernoulli:
        """Predict one probability for each feature vector."""
        check_width("feature", feature, self.mlp.in_features)
        return dists.Bernoulli(self.out(self.mlp(feature)).squeeze(-1))


class OneHotHead(nn.Module):
    """Predicts one-hot vectors `groups classes`: an MLP to categoricals with unimix.

    Source: DreamerV2 and DreamerV3 (unimix 0.01).
    """

    def __init__(
        self,
        feature_dim: int,
        *,
        groups: int,
        classes: int,
        units: int,
        layers: int,
        unimix: float = 0.01,
        outscale: float = 1.0,
    ) -> None:
        super().__init__()
        self.shape, self.unimix = (groups, classes), unimix
        self.mlp = MLP(feature_dim, units=units, layers=layers)
        self.out = Linear(units, groups * classes, outscale=outscale)

    @typed
    def forward(self, feature: Float[Tensor, "*batch feature"]) -> dists.OneHot:
        """Predict `groups` categoricals for each feature vector."""
        check_width("feature", feature, self.mlp.in_features)
        logits = self.out(self.mlp(feature)).unflatten(-1, self.shape)
        return dists.OneHot(logits, unimix=self.unimix, event=1)
