"""Normal distributions in a transformed space."""

from typing import Protocol

from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from worldblocks.distributions.continuous import Normal
from worldblocks.distributions.output import Output, detached, floats, same_shape, sum_event


class Transform(Protocol):
    """An increasing, invertible function of numbers, such as `transforms.LearnableSymlog`."""

    def __call__(self, x: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """f(x)."""
        ...

    def inverse(self, y: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """f⁻¹(y)."""
        ...

    def log_derivative(self, x: Float[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
        """ln f'(x)."""
        ...


class TransformedNormal(Output):
    """The distribution of x where f(x) is normal.

        ln p(x) = ln N(f(x); μ, σ) + ln f'(x)

    The second term makes f trainable: without it the loss is smallest if f maps all targets to one
    number. Targets are detached, the parameters of f are not.

    Args:
        mean: μ, in the space of f.
        std: σ, in the space of f.
        transform: f.
        event: number of trailing axes that make one event.

    Source: change of variables; Box & Cox 1964 for fitting a transform this way.

    >>> import torch
    >>> from worldblocks.transforms import LearnableSymlog
    >>> one = torch.tensor(1.0)
    >>> round(TransformedNormal(one, one, LearnableSymlog()).mean.item(), 4)
    1.7183
    """

    tensors = ("_mean", "std")

    def __init__(
        self,
        mean: Float[Tensor, "*shape"],
        std: Float[Tensor, "*shape"],
        transform: Transform,
        event: int = 0,
    ) -> None:
        super().__init__(event)
        self._mean, self.std = floats(self, mean, "mean"), floats(self, std, "std")
        self.transform = transform
        same_shape(self, std, mean, "a std")

    @property
    def normal(self) -> Normal:
        """The distribution of f(x)."""
        return Normal(self._mean, self.std, self.event)

    @property
    def mean(self) -> Float32[Tensor, "*shape"]:
        """The prediction f⁻¹(μ): the median of x, not its expectation."""
        return self.transform.inverse(self._mean)

    def sample(self, noise: Float[Tensor, "*shape"] | None = None) -> Float32[Tensor, "*shape"]:
        """`f⁻¹(mean + std * noise)`; the median inside `modes()`."""
        return self.transform.inverse(self.normal.sample(noise))

    def log_prob(self, x: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Log-density, summed over event axes."""
        same_shape(self, x, self._mean)
        slope = sum_event(self.transform.log_derivative(x.float()), self.event)
        return self.normal.log_prob(self.transform(x.float())) + slope

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Negative log-density of a target, summed over event axes; it may be negative."""
        return -self.log_prob(detached(target))
