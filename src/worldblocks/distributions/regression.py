"""Regression outputs: a mean and an error, without a distribution."""

import math
from typing import Any

import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from worldblocks import transforms
from worldblocks._eager import eager_on_cpu, first_order
from worldblocks.distributions.output import Output, floats, lacks, same_shape, sum_event


class MSE(Output):
    """Squared error: `nll(x) = sum((mean - x)²)` over the event axes, without a factor 1/2.

    >>> MSE(torch.tensor([1.0, 2.0]), event=1).nll(torch.tensor([0.0, 4.0])).item()
    5.0
    """

    tensors = ("_mean",)

    def __init__(self, mean: Float[Tensor, "*shape"], event: int = 0) -> None:
        super().__init__(event)
        self._mean = floats(self, mean, "mean")

    @property
    def mean(self) -> Float32[Tensor, "*shape"]:
        """The predicted value."""
        return self._mean

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Squared error of a target, summed over event axes."""
        same_shape(self, target, self._mean)
        return sum_event((self._mean - target.detach().float()).square(), self.event)


class SymlogMSE(MSE):
    """`MSE` against `symlog(target)`; `mean` stays in symlog space, as in the reference."""

    def nll(self, target: Shaped[Tensor, "*shape"]) -> Float32[Tensor, "*batch"]:
        """Squared error against the symlog of a target, summed over event axes."""
        same_shape(self, target, self._mean)
        return super().nll(transforms.symlog(target.float()))


class ImageMSE(MSE):
    """`MSE` of an image in [0, 1] against uint8 pixels: `sum((mean - target / 255)²)`."""

    def __init__(self, mean: Float[Tensor, "*batch height width channel"]) -> None:
        super().__init__(mean, event=3)

    def nll(
        self, target: UInt8[Tensor, "*batch height width channel"]
    ) -> Float32[Tensor, "*batch"]:
        """Squared error of uint8 pixels, summed over an image."""
        same_shape(self, target, self._mean)
        _check_pixels(target)
        return super().nll(target.float() / 255)


class SigmoidImageMSE(ImageMSE):
    """`ImageMSE` with `mean = sigmoid(logit)`: the output of an image decoder.

    >>> SigmoidImageMSE(torch.zeros(1, 2, 2, 1)).nll(torch.zeros(1, 2, 2, 1).byte()).item()
    1.0
    """

    tensors = ("_logit", "_sigmoid")

    def __init__(self, logit: Float[Tensor, "*batch height width channel"]) -> None:
        Output.__init__(self, event=3)
        self._logit = floats(self, logit, "logit")
        self._sigmoid: Any = None

    def _complete(self) -> None:
        _ = self.mean

    @property
    def logit(self) -> Float32[Tensor, "*batch height width channel"]:
        """The logits of the pixels."""
        return self._logit

    @property
    def mean(self) -> Float32[Tensor, "*batch height width channel"]:
        """Pixels in [0, 1]."""
        if lacks(self._sigmoid, self._logit):
            self._sigmoid = self._logit.sigmoid()
        return self._sigmoid

    def nll(
        self, target: UInt8[Tensor, "*batch height width channel"]
    ) -> Float32[Tensor, "*batch"]:
        """Squared error of uint8 pixels, summed over an image."""
        same_shape(self, target, self._logit)
        if not eager_on_cpu(self._logit) or target.dtype != torch.uint8:
            return ImageMSE(self.mean).nll(target)
        batch, image = target.shape[:-3], target.shape[-3:]
        images = (x.reshape(math.prod(batch), *image) for x in (self._logit, target))
        return _SigmoidError.apply(*images).view(batch)


class SigmoidImageL1(SigmoidImageMSE):
    """The same with absolute errors: `sum(|mean - target / 255|)`.

    >>> SigmoidImageL1(torch.zeros(1, 2, 2, 1)).nll(torch.zeros(1, 2, 2, 1).byte()).item()
    2.0
    """

    def nll(
        self, target: UInt8[Tensor, "*batch height width channel"]
    ) -> Float32[Tensor, "*batch"]:
        """Absolute error of uint8 pixels, summed over an image."""
        same_shape(self, target, self._logit)
        _check_pixels(target)
        return sum_event((self.mean - target.float() / 255).abs(), self.event)


def _check_pixels(target: Tensor) -> None:
    """Raise unless the pixels are uint8: the range of floats is unknown."""
    if target.dtype != torch.uint8:
        raise TypeError(
            f"an image target must be uint8 in 0…255, got {target.dtype}; use "
            f"(255 * x).byte() for numbers in 0…1"
        )


class _SigmoidError(torch.autograd.Function):
    """The squared error of `SigmoidImageMSE`, a few images at a time to stay in the cache."""

    CHUNK = 2**16  # numbers

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, logit: Any, target: Any) -> Any:
        """The error of each image."""
        half = torch.empty_like(logit)  # half the gradient: d/dx (p - t)² / 2 = (p - t) p (1 - p)
        norm = logit.new_empty(len(logit))
        images = max(1, _SigmoidError.CHUNK // max(1, logit.shape[1:].numel()))
        for x, t, p, out in zip(
            *(a.split(images) for a in (logit, target, half, norm)), strict=True
        ):
            torch.sigmoid(x, out=p)
            error = torch.sub(p, t.float().div_(255))
            torch.linalg.vector_norm(error, dim=(-3, -2, -1), out=out)
            p.addcmul_(p, p, value=-1).mul_(error)
        ctx.save_for_backward(half)
        return norm.square_()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:  # type: ignore[override]
        """The gradient of the logits."""
        first_order("SigmoidImageMSE.nll", "ImageMSE(output.mean).nll(target)")
        return ctx.saved_tensors[0] * (2 * grad[..., None, None, None]), None
