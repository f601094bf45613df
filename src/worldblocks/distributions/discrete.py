"""Discrete distributions: one-hot vectors, bins of a number, binary values."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from worldblocks import transforms
from worldblocks.distributions.mixture import (
    check_unimix,
    finite_log_softmax,
    inverse_cdf,
    mixed_softmax,
)
from worldblocks.distributions.output import (
    Output,
    detached,
    floats,
    lacks,
    same_kind,
    same_shape,
    sum_event,
    wants_mode,
)


class OneHot(Output):
    """A categorical over one-hot vectors, with straight-through gradients.

    `unimix` mixes the distribution with a uniform one, `p = (1 - unimix) softmax + unimix / C`.
    Samples and their gradient, log-probability and entropy all use the mixture. If `unimix` is 0, a
    logit of -inf (an invalid action) has probability 0.

    Source: DreamerV2 (arXiv:2010.02193) for straight-through, DreamerV3 for unimix.

    >>> OneHot(torch.tensor([0.0, 0.0, 9.0, 0.0])).sample(noise=torch.tensor(0.5)).tolist()
    [0.0, 0.0, 1.0, 0.0]
    """

    tensors = ("_raw", "_probs", "_logits")
    own_axes = 1

    def __init__(
        self, logits: Float[Tensor, "*shape classes"], *, unimix: float = 0.0, event: int = 0
    ) -> None:
        super().__init__(event)
        check_unimix(unimix)
        self._raw, self.unimix = floats(self, logits, "logits"), unimix
        self._probs: Any = None
        self._logits: Any = None

    def _complete(self) -> None:
        _ = self.probs, self.logits

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a value without its batch axes, the classes included."""
        return tuple(self._raw.shape[self._raw.ndim - self.event - 1 :])

    @property
    def probs(self) -> Float32[Tensor, "*shape classes"]:
        """Probabilities of the mixture."""
        if lacks(self._probs, self._raw):
            self._probs = mixed_softmax(self._raw, self.unimix)
        return self._probs

    @property
    def logits(self) -> Float32[Tensor, "*shape classes"]:
        """Log-probabilities of the mixture."""
        if lacks(self._logits, self._raw):
            mixed = self.unimix > 0
            self._logits = self.probs.log() if mixed else finite_log_softmax(self._raw)
        return self._logits

    @property
    def mean(self) -> Float32[Tensor, "*shape classes"]:
        """The probabilities."""
        return self.probs

    @property
    def mode(self) -> Float32[Tensor, "*shape classes"]:
        """The most probable one-hot, with a straight-through gradient."""
        return self._straight_through(self.probs.argmax(-1, keepdim=True))

    def sample(
        self, noise: Float[Tensor, "*shape"] | None = None
    ) -> Float32[Tensor, "*shape classes"]:
        """A one-hot sample, `onehot + (p - stop_gradient(p))`.

        Args:
            noise: uniform numbers in [0, 1), one per categorical.
        """
        if wants_mode():
            return self.mode
        if noise is None:
            noise = torch.rand_like(self.probs[..., 0])
        same_shape(self, noise, self.probs[..., 0], "noise")
        return self._straight_through(inverse_cdf(self.probs.detach(), noise.unsqueeze(-1)))

    def _straight_through(self, index: Tensor) -> Tensor:
        chosen = self.probs.detach().gather(-1, index)
        # 1, or NaN where the logits are NaN, so that a broken row does not look like a class.
        zeros = torch.zeros_like(self.probs, memory_format=torch.contiguous_format)
        onehot = zeros.scatter_(-1, index, chosen.div_(chosen))
        return onehot + (self.probs - self.probs.detach()) if self.probs.requires_grad else onehot

    def log_prob(self, x: Shaped[Tensor, "*shape classes"]) -> Float32[Tensor, "*batch"]:
        """Log-probability of one-hot vectors, summed over event axes."""
        if isinstance(x, Tensor) and x.shape == self.logits.shape[:-1]:
            raise ValueError(
                f"OneHot takes one-hot vectors of shape {tuple(self.logits.shape)}, got indices of "
                f"shape {tuple(x.shape)}; use torch.nn.functional.one_hot(x.long(), "
                f"{self.logits.shape[-1]})"
            )
        same_shape(self, x, self.logits)
        return sum_event((self.logits * x).sum(-1), self.event)

    def nll(self, target: Shaped[Tensor, "*shape classes"]) -> Float32[Tensor, "*batch"]:
        """Cross-entropy with one-hot or soft targets, summed over event axes."""
        return -self.log_prob(detached(target))

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Entropy in nats, summed over event axes."""
        return -sum_event((self.probs * self.logits).sum(-1), self.event)

    def kl(self, other: "OneHot") -> Float32[Tensor, "*batch"]:
        """KL divergence in nats, `sum(p (ln p - ln q))`, summed over event axes.

        Both must have the same `unimix`, which is part of the model.
        """
        same_kind(self, other, OneHot)
        same_shape(self, other.probs, self.probs, "a distribution")
        if self.unimix != other.unimix:
            raise ValueError(
                f"OneHot.kl needs two distributions with the same unimix, got {self.unimix} and "
                f"{other.unimix}"
            )
        return sum_event(self.probs * (self.logits - other.logits), self.event + 1)


class TwoHot(Output):
    """A number as a categorical over bins: the mean over bins, cross-entropy with two-hot targets.

    Source: DreamerV3, section "Critic learning"; see `worldblocks.transforms.two_hot`.

    >>> TwoHot(torch.zeros(2, 3), torch.tensor([-1.0, 0.0, 1.0])).mean.tolist()
    [0.0, 0.0]
    """

    tensors = ("_raw", "_logits")
    own_axes = 1

    def __init__(self, logits: Float[Tensor, "*batch bins"], bins: Float[Tensor, " bins"]) -> None:
        super().__init__()
        self._raw, self.bins = floats(self, logits, "logits"), bins
        floats(self, bins, "bins")
        if logits.shape[-1:] != bins.shape:
            raise ValueError(
                f"TwoHot needs one logit per bin for {len(bins)} bins, got logits of shape "
                f"{tuple(logits.shape)}"
            )
        self._logits: Any = None

    def _complete(self) -> None:
        _ = self.logits

    @property
    def logits(self) -> Float32[Tensor, "*batch bins"]:
        """Log-probabilities of the bins."""
        if lacks(self._logits, self._raw):
            self._logits = self._raw.log_softmax(-1)
        return self._logits

    @property
    def mean(self) -> Float32[Tensor, "*batch"]:
        """The mean over bins, summed symmetrically: exactly 0 for a uniform distribution."""
        return transforms.symmetric_mean(self._raw.softmax(-1), self.bins)

    @property
    def mode(self) -> Float32[Tensor, "*batch"]:
        """The most probable bin."""
        return self.bins[self.logits.argmax(-1)]

    def sample(self, noise: Float[Tensor, "*batch"] | None = None) -> Float32[Tensor, "*batch"]:
        """A sampled bin; `noise` as for `OneHot.sample`."""
        return (OneHot(self.logits.detach()).sample(noise) * self.bins).sum(-1)

    def log_prob(self, x: Shaped[Tensor, "*batch"]) -> Float32[Tensor, "*batch"]:
        """Log-probability of numbers under their two-hot encoding."""
        same_shape(self, x, self.logits[..., 0])
        below, weight = transforms.two_hot_indices(x.detach(), self.bins)
        pair = self.logits.gather(-1, torch.stack([below, below + 1], -1))
        return (1 - weight) * pair[..., 0] + weight * pair[..., 1]

    def nll(self, target: Shaped[Tensor, "*batch"]) -> Float32[Tensor, "*batch"]:
        """Cross-entropy with the two-hot encoding of a number."""
        return -self.log_prob(target)

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Entropy over bins in nats."""
        return -(self.logits.exp() * self.logits).sum(-1)


class Bernoulli(Output):
    """A Bernoulli distribution given by a logit; `nll` takes soft targets in [0, 1].

    >>> Bernoulli(torch.tensor(0.0)).mean.item()
    0.5
    """

    tensors = ("logit",)

    def __init__(self, logit: Float[Tensor, "*shape"], event: int = 0) -> None:
        super().__init__(event)
        self.logit = floats(self, logit, "logit")

    @property
    def mean(self) -> Float32[Tensor, "*shape"]:
        """The probability of 1."""
        return self.logit.sigmoid()

    @property
    def mode(self) -> Float32[Tensor, "*shape"]:
        """1 where the probability exceeds one half, float32."""
        return (self.logit > 0).float()

    def sample(self, noise: Float[Tensor, "*shape"] | None = None) -> Float32[Tensor, "*shape"]:
        """0 or 1, float32; `noise` is uniform in [0, 1) of the same shape."""
        if wants_mode():
            return self.mode
        if noise is None:
            noise = torch.rand_like(self.logit)
        same_shape(self, noise, self.logit, "noise")
        return (noise < self.mean).float()

    def log_prob(self, x: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Log-probability, linear between 0 and 1, summed over event axes."""
        return -self.nll(x)

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Cross-entropy with a target probability, summed over event axes."""
        same_shape(self, target, self.logit)
        target = target.detach().float()
        return sum_event(
            F.binary_cross_entropy_with_logits(self.logit, target, reduction="none"), self.event
        )

    def entropy(self) -> Float32[Tensor, "*batch"]:
        """Entropy in nats, summed over event axes."""
        p, logit = self.mean, self.logit
        return sum_event(-p * F.logsigmoid(logit) - (1 - p) * F.logsigmoid(-logit), self.event)
