"""Outputs of heads: predictions with a `mean` and an `nll(target)`, most of them distributions.

Every output can be sliced along its batch axes like a tensor (`out[:, :-1]`). A distribution also
has `mode`, `sample()`, `log_prob(x)` and `entropy()`; `OneHot` and `Normal` also have `kl(other)`.
`event` is the number of trailing axes that form one event. `nll`, `log_prob` and `entropy` sum over
them, so values of `*shape` (batch axes, then event axes) give a result of `*batch`. Everything is
computed in float32. An output of your own is a subclass of `Output`.

`sample(noise=None)` takes its randomness as an optional tensor. Inside `with modes():` every sample
is the mode; straight-through gradients are unchanged.
"""

from worldblocks.distributions.continuous import BoundedNormal, Normal
from worldblocks.distributions.discrete import Bernoulli, OneHot, TwoHot
from worldblocks.distributions.features import Features
from worldblocks.distributions.joint import Joint
from worldblocks.distributions.mixture import inverse_cdf, mix_uniform, softmax
from worldblocks.distributions.output import Output, modes, same_shape, sum_event, wants_mode
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
    "same_shape",
    "softmax",
    "sum_event",
    "wants_mode",
]
