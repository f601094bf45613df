"""Heads: from a feature vector to a prediction.

Every output has `mean` and `nll(target)` and can be sliced like a tensor; see
`worldblocks.distributions`.
"""

from worldblocks.heads.actor import ActorHead
from worldblocks.heads.classification import BinaryHead, OneHotHead
from worldblocks.heads.regression import FeatureHead, NormalHead, SymlogHead, TwoHotHead

__all__ = [
    "ActorHead",
    "BinaryHead",
    "FeatureHead",
    "NormalHead",
    "OneHotHead",
    "SymlogHead",
    "TwoHotHead",
]
