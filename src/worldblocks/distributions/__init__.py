"""What heads put out: predictions with a `mean` and an `nll(target)`, most of them distributions.

Every output slices like the tensor of its batch axes (`out[:, :-1]`); a distribution adds `mode`,
`sample()`, `log_prob(x)` and `entropy()`. `event` is the number of trailing axes that make one
event: `nll`, `log_prob` and `entropy` sum over them, so that a value of `*shape` (the batch axes,
then the event axes) gives a result of `*batch`. `OneHot` and `Normal` have `kl(other)` too.
Everything is computed in float32.

Sampling has one door: `sample(noise=None)` takes its randomness as an optional tensor, and inside
`with modes():` every sample is the mode (a straight-through gradient stays as it is).
"""

from worldblocks.distributions.continuous import BoundedNormal, Normal
from worldblocks.distributions.discrete import Bernoulli, OneHot, TwoHot
from worldblocks.distributions.features import Features
from worldblocks.distributions.joint import Joint
from worldblocks.distributions.mixture import inverse_cdf, mix_uniform, softmax
from worldblocks.distributions.output import Output, modes, wants_mode
from worldblocks.distributions.regression import (
    MSE,
    ImageMSE,
    SigmoidImageL1,
    SigmoidImageMSE,
    SymlogMSE,
)
from worldblocks.distributions.transformed import Transform, TransformedNormal

__all__ = [
    "MSE",
    "Bernoulli",
    "BoundedNormal",
    "Features",
    "ImageMSE",
    "Joint",
    "Normal",
    "OneHot",
    "Output",
    "SigmoidImageL1",
    "SigmoidImageMSE",
    "SymlogMSE",
    "Transform",
    "TransformedNormal",
    "TwoHot",
    "inverse_cdf",
    "mix_uniform",
    "modes",
    "softmax",
    "wants_mode",
]
