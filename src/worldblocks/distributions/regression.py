"""Regressions: outputs with a mean and a squared error, which are no distributions."""

from typing import Any

import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor
from torch.autograd.function import once_differentiable

from worldblocks import transforms
from worldblocks.distributions.output import Output, lacks, same_shape, sum_event


class MSE(Output):
    """A regression: `nll(x) = sum((mean - x)²)` over the event axes (no 1/2, no average).

    >>> MSE(torch.tensor([1.0, 2.0]), event=1).nll(torch.tensor([0.0, 4.0])).item()
    5.0
    """

    _tensors = ("_mean",)

    def __init__(self, mean: Float[Tensor, "*shape"], event: int = 0) -> None:
        super().__init__(event)
        self._mean = mean.float()

    @property
    def mean(self) -> Float32[Tensor, "*shape"]:
        """The regressed value."""
        return self._mean

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Squared error of a target, summed over event axes."""
        same_shape(self, target, self._mean)
        return sum_event((self._mean - target.detach().float()).square(), self.event)


class SymlogMSE(MSE):
    """`MSE` against `symlog(target)`; `mean` stays in symlog space, as in the reference."""

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Squared error against the symlog of a target, summed over event axes."""
        return super().nll(transforms.symlog(target.float()))


class ImageMSE(MSE):
    """`MSE` of an image in [0, 1] against uint8 pixels: `sum((mean - target / 255)²)`."""

    def __init__(self, mean: Float[Tensor, "*batch height width channel"]) -> None:
        super().__init__(mean, event=3)

    def nll(
        self, target: UInt8[Tensor, "*batch height width channel"]
    ) -> Float32[Tensor, "*batch"]:
        """Squared error of uint8 pixels, summed over an image."""
        if target.dtype != torch.uint8:
            raise TypeError(f"an image target is uint8 in 0…255, got {target.dtype}")
        return super().nll(target.float() / 255)


class SigmoidImageMSE(ImageMSE):
    """`ImageMSE` of `mean = sigmoid(logit)`: what an image decoder puts out.

    >>> SigmoidImageMSE(torch.zeros(1, 2, 2, 1)).nll(torch.zeros(1, 2, 2, 1).byte()).item()
    1.0
    """

    _tensors = ("logit", "_sigmoid")

    def __init__(self, logit: Float[Tensor, "*batch height width channel"]) -> None:
        Output.__init__(self, event=3)
        self.logit = logit.float()
        self._sigmoid: Any = None

    def _complete(self) -> None:
        _ = self.mean

    @property
    def mean(self) -> Float32[Tensor, "*batch height width channel"]:
        """Pixels in [0, 1]."""
        if lacks(self._sigmoid, self.logit):
            self._sigmoid = self.logit.sigmoid()
        return self._sigmoid

    def nll(
        self, target: UInt8[Tensor, "*batch height width channel"]
    ) -> Float32[Tensor, "*batch"]:
        """Squared error of uint8 pixels, summed over an image."""
        eager = self.logit.device.type == "cpu" and not torch.compiler.is_compiling()
        if not eager or target.dtype != torch.uint8 or target.shape != self.logit.shape:
            same_shape(self, target, self.logit)
            return ImageMSE(self.mean).nll(target)
        return _SigmoidError.apply(self.logit, target)


class _SigmoidError(torch.autograd.Function):
    """The error above in a third of the passes that autograd makes over an image, for a CPU."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, logit: Any, target: Any) -> Any:
        mean = torch.sigmoid(logit)
        error = target.float().div_(255)
        torch.sub(mean, error, out=error)
        loss = torch.linalg.vector_norm(error, dim=(-3, -2, -1)).square_()
        # Half the gradient, d/dx (p - t)² / 2 = (p - t) p (1 - p), in memory that is there.
        ctx.save_for_backward(mean.addcmul_(mean, mean, value=-1).mul_(error))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Any) -> Any:  # type: ignore[override]
        return ctx.saved_tensors[0] * (2 * grad[..., None, None, None]), None
