"""What heads put out: predictions with a `mean` and an `nll(target)`, most of them distributions.

Every output slices like the tensor of its batch axes (`out[:, :-1]`); a distribution adds `mode`,
`sample()`, `log_prob(x)` and `entropy()`. `event` is the number of trailing batch axes that make
one event: `nll`, `log_prob` and `entropy` sum over them. Everything is computed in float32.

Sampling has one door: `sample(noise=None)` takes its randomness as an optional tensor, and inside
`with modes():` every sample is the mode (a straight-through gradient stays as it is).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from worldblocks import transforms

_modes = False


@contextmanager
def modes() -> Iterator[None]:
    """Replace samples by modes: deterministic models for tests, parity and evaluation."""
    global _modes
    before, _modes = _modes, True
    try:
        yield
    finally:
        _modes = before


def _sum(x: Tensor, event: int) -> Tensor:
    return x.sum(tuple(range(-event, 0))) if event else x


class Output:
    """A prediction over batch axes: tensors of the same batch axes and a count of event axes."""

    _tensors: tuple[str, ...]
    _own: int = 0  # trailing axes of the tensors beyond batch and event axes

    def __init__(self, event: int = 0) -> None:
        self.event = event

    @property
    def mean(self) -> Tensor:
        """The expected value, `*batch *event`."""
        raise AttributeError(f"{type(self).__name__} defines no mean")

    def nll(self, target: Tensor) -> Tensor:
        """The loss of a target `*batch *event`, summed over event axes: `*batch`, float32."""
        raise AttributeError(f"{type(self).__name__} defines no nll")

    def __getitem__(self, index: Any) -> Self:
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            index = (*index, *[slice(None)] * (self.event + self._own))
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new.__dict__.update({name: getattr(self, name)[index] for name in self._tensors})
        return new

    def __getattr__(self, name: str) -> Any:
        has = [
            n
            for n in ("mean", "nll", "mode", "sample", "log_prob", "entropy")
            if hasattr(type(self), n)
        ]
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}; it has {', '.join(has)}", name=name, obj=None
        )


class MSE(Output):
    """A regression: `nll(x) = sum((mean - x)²)` over the event axes (no 1/2, no average)."""

    _tensors = ("_mean",)

    def __init__(self, mean: Tensor, event: int = 0) -> None:
        super().__init__(event)
        self._mean = mean.float()

    @property
    def mean(self) -> Tensor:
        """The regressed value, `*batch *event`."""
        return self._mean

    def nll(self, target: Tensor) -> Tensor:
        """Squared error of a float target `*batch *event`, summed over event axes: `*batch`."""
        _same_shape(self, target, self._mean)
        return _sum((self._mean - target.detach().float()).square(), self.event)


class SymlogMSE(MSE):
    """`MSE` against `symlog(target)`; `mean` stays in symlog space, as in the reference."""

    def nll(self, target: Tensor) -> Tensor:
        """Squared error against the symlog of a target `*batch *event`: `*batch`."""
        return super().nll(transforms.symlog(target.float()))


class ImageMSE(MSE):
    """`MSE` of an image in [0, 1] against uint8 pixels: `sum((mean - target / 255)²)`."""

    def __init__(self, mean: Tensor) -> None:
        super().__init__(mean, event=3)

    def nll(self, target: Tensor) -> Tensor:
        """Squared error of a uint8 target `*batch height width channel`: `*batch`."""
        if target.dtype != torch.uint8:
            raise TypeError(f"an image target is uint8 in 0…255, got {target.dtype}")
        return super().nll(target.float() / 255)


class OneHot(Output):
    """One-hot vectors of `classes`, the last axis of `logits`; samples are straight-through.

    `unimix` mixes the distribution with a uniform one, `p = (1 - unimix) softmax + unimix / C`;
    sampling, log-probability, entropy and the gradient of a sample all use the mixture.

    Source: DreamerV2 (arXiv:2010.02193) for straight-through, DreamerV3 for unimix.
    """

    _tensors = ("logits", "probs")
    _own = 1

    def __init__(self, logits: Tensor, *, unimix: float = 0.0, event: int = 0) -> None:
        super().__init__(event)
        self.logits, self.probs = mix_uniform(logits, unimix)

    @property
    def mean(self) -> Tensor:
        """The probabilities, `*batch *event classes`."""
        return self.probs

    @property
    def mode(self) -> Tensor:
        """The likeliest one-hot, with the straight-through gradient."""
        return self._straight_through(self.probs.argmax(-1, keepdim=True))

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """A one-hot sample `*batch *event classes`, `onehot + (p - stop_gradient(p))`.

        Args:
            noise: uniform numbers in [0, 1) `*batch *event`, one for each categorical.
        """
        if _modes:
            return self.mode
        if noise is None:
            noise = torch.rand_like(self.probs[..., 0])
        # Inverse CDF; the last class takes what rounding leaves of the cumulative sum.
        passed = noise.unsqueeze(-1) >= self.probs.detach().cumsum(-1)[..., :-1]
        return self._straight_through(passed.sum(-1, keepdim=True))

    def _straight_through(self, index: Tensor) -> Tensor:
        onehot = torch.zeros_like(self.probs).scatter_(-1, index, 1.0)
        return onehot + (self.probs - self.probs.detach()) if self.probs.requires_grad else onehot

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of one-hot vectors `*batch *event classes`: `*batch`."""
        _same_shape(self, x, self.logits)
        return _sum((self.logits * x).sum(-1), self.event)

    def nll(self, target: Tensor) -> Tensor:
        """Cross-entropy with one-hot or soft targets `*batch *event classes`: `*batch`."""
        return -self.log_prob(target.detach())

    def entropy(self) -> Tensor:
        """Entropy in nats, `*batch`."""
        return -_sum((self.probs * self.logits).sum(-1), self.event)


def mix_uniform(logits: Tensor, unimix: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities and probabilities of `(1 - unimix) softmax(logits) + unimix / classes`."""
    if not 0 <= unimix <= 1:
        raise ValueError(f"unimix is a share between 0 and 1, got {unimix}")
    logits = logits.float()
    if not unimix:
        logits = logits.log_softmax(-1)
        return logits, logits.exp()
    probs = (1 - unimix) * logits.softmax(-1) + unimix / logits.shape[-1]
    return probs.log(), probs


class TwoHot(Output):
    """A categorical over bins read as a number: mean over bins, cross-entropy with two-hot targets.

    Source: DreamerV3, section "Critic learning"; see `worldblocks.transforms.two_hot`.
    """

    _tensors = ("logits",)
    _own = 1

    def __init__(self, logits: Tensor, bins: Tensor) -> None:
        super().__init__()
        self.logits = logits.float().log_softmax(-1)
        self.bins = bins

    @property
    def mean(self) -> Tensor:
        """The expected bin, `*batch`, summed symmetrically (0 exactly where uniform)."""
        return transforms.symmetric_mean(self.logits.exp(), self.bins)

    @property
    def mode(self) -> Tensor:
        """The likeliest bin, `*batch`."""
        return self.bins[self.logits.argmax(-1)]

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """A bin drawn from the distribution, `*batch`; `noise` as for `OneHot.sample`."""
        return (OneHot(self.logits.detach()).sample(noise) * self.bins).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of numbers `*batch` under their two-hot encoding: `*batch`."""
        _same_shape(self, x, self.logits[..., 0])
        below, weight = transforms.two_hot_indices(x.detach(), self.bins)
        pair = self.logits.gather(-1, torch.stack([below, below + 1], -1))
        return (1 - weight) * pair[..., 0] + weight * pair[..., 1]

    def nll(self, target: Tensor) -> Tensor:
        """Cross-entropy with the two-hot of a number `*batch`: `*batch`."""
        return -self.log_prob(target)

    def entropy(self) -> Tensor:
        """Entropy over bins in nats, `*batch`."""
        return -(self.logits.exp() * self.logits).sum(-1)


class Bernoulli(Output):
    """A probability given as a logit; `nll` takes soft targets in [0, 1]."""

    _tensors = ("logit",)

    def __init__(self, logit: Tensor, event: int = 0) -> None:
        super().__init__(event)
        self.logit = logit.float()

    @property
    def mean(self) -> Tensor:
        """The probability of 1, `*batch *event`."""
        return self.logit.sigmoid()

    @property
    def mode(self) -> Tensor:
        """1 where the probability exceeds one half, float32."""
        return (self.logit > 0).float()

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """0 or 1, float32; `noise` is uniform in [0, 1) of the same shape."""
        if _modes:
            return self.mode
        noise = torch.rand_like(self.logit) if noise is None else noise
        return (noise < self.mean).float()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of 0s and 1s, linear in between: `*batch`."""
        return -self.nll(x)

    def nll(self, target: Tensor) -> Tensor:
        """Cross-entropy with a target probability `*batch *event`: `*batch`."""
        _same_shape(self, target, self.logit)
        target = target.detach().float()
        return _sum(
            F.binary_cross_entropy_with_logits(self.logit, target, reduction="none"), self.event
        )

    def entropy(self) -> Tensor:
        """Entropy in nats, `*batch`."""
        p, logit = self.mean, self.logit
        return _sum(-p * F.logsigmoid(logit) - (1 - p) * F.logsigmoid(-logit), self.event)


class Normal(Output):
    """Independent normal distributions; samples carry the reparameterisation gradient."""

    _tensors = ("_mean", "std")

    def __init__(self, mean: Tensor, std: Tensor, event: int = 0) -> None:
        super().__init__(event)
        self._mean, self.std = mean.float(), std.float()

    @property
    def mean(self) -> Tensor:
        """The mean, `*batch *event`."""
        return self._mean

    @property
    def mode(self) -> Tensor:
        """The mean, `*batch *event`."""
        return self._mean

    def sample(self, noise: Tensor | None = None) -> Tensor:
        """`mean + std * noise`; `noise` is standard normal of the same shape."""
        if _modes:
            return self.mode
        return self._mean + self.std * (torch.randn_like(self._mean) if noise is None else noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of `*batch *event`, summed over event axes: `*batch`."""
        _same_shape(self, x, self._mean)
        scaled = (x.float() - self._mean) / self.std
        return _sum(
            -0.5 * scaled.square() - self.std.log() - 0.5 * math.log(2 * math.pi), self.event
        )

    def nll(self, target: Tensor) -> Tensor:
        """Negative log-density of a target `*batch *event`: `*batch`."""
        return -self.log_prob(target.detach())

    def entropy(self) -> Tensor:
        """Differential entropy in nats, `*batch`."""
        return _sum(self.std.log() + 0.5 * math.log(2 * math.pi * math.e), self.event)


class BoundedNormal(Normal):
    """The continuous actor of DreamerV3: a bounded mean and standard deviation, nothing squashed.

    `mean = tanh(raw_mean)`, `std = (high - low) sigmoid(raw_std + 2) + low`. Samples are neither
    truncated nor clipped; an environment clips them to [-1, 1].

    Source: the authors' released code (`bounded_normal`), low 0.1 and high 1.
    """

    def __init__(
        self,
        raw_mean: Tensor,
        raw_std: Tensor,
        *,
        low: float = 0.1,
        high: float = 1.0,
        event: int = 0,
    ) -> None:
        std = (high - low) * (raw_std.float() + 2).sigmoid() + low
        super().__init__(raw_mean.float().tanh(), std, event)


class Joint(Output):
    """Independent parts of one flat vector: the distribution of an action.

    Each part is a distribution whose events, flattened, fill the next slice of the last axis, in
    the order given (sorted keys). Log-probabilities and entropies add up.
    """

    def __init__(self, parts: dict[str, Output]) -> None:
        super().__init__(event=1)
        self.parts = parts
        self._axes = {key: part.event + part._own for key, part in parts.items()}

    def __getitem__(self, index: Any) -> Self:
        return type(self)({key: part[index] for key, part in self.parts.items()})

    def _join(self, values: dict[str, Tensor]) -> Tensor:
        flat = [
            x.flatten(-self._axes[key]) if self._axes[key] else x[..., None]
            for key, x in values.items()
        ]
        return torch.cat(flat, -1)

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """The parts of flat vectors `*batch action`, each in its own event shape."""
        shapes = {k: p.mean.shape[p.mean.ndim - self._axes[k] :] for k, p in self.parts.items()}
        pieces = x.split([math.prod(shape) for shape in shapes.values()], -1)
        return {
            key: piece.reshape(*x.shape[:-1], *shape)
            for (key, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

    @property
    def mean(self) -> Tensor:
        """The means of the parts, `*batch action` (probabilities of a discrete part)."""
        return self._join({key: part.mean for key, part in self.parts.items()})

    @property
    def mode(self) -> Tensor:
        """The modes of the parts, `*batch action`."""
        return self._join({key: part.mode for key, part in self.parts.items()})

    def sample(self, noise: dict[str, Tensor] | None = None) -> Tensor:
        """A sample `*batch action`; `noise` by part, as each part takes it."""
        noise = noise or {}
        return self._join({key: part.sample(noise.get(key)) for key, part in self.parts.items()})

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of flat vectors `*batch action`: `*batch`."""
        values = self.split(x)
        return sum(part.log_prob(values[key]) for key, part in self.parts.items())  # type: ignore[return-value]

    def nll(self, target: Tensor) -> Tensor:
        """Negative log-probability of flat vectors `*batch action`: `*batch`."""
        return -self.log_prob(target.detach())

    def entropy(self) -> Tensor:
        """Sum of the parts' entropies in nats, `*batch`."""
        return sum(part.entropy() for part in self.parts.values())  # type: ignore[return-value]


def _same_shape(output: Output, x: Tensor, like: Tensor) -> None:
    """Two shapes that broadcast give a loss without an error: refuse them."""
    if x.shape != like.shape:
        raise ValueError(
            f"{type(output).__name__} of shape {tuple(like.shape)} was given a value of shape "
            f"{tuple(x.shape)}; they must be equal (nothing broadcasts)"
        )
