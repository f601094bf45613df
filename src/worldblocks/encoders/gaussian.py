"""The encoder of a variational autoencoder."""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from worldblocks.distributions import Normal
from worldblocks.encoders.images import ImageEncoder, Size
from worldblocks.layers import Linear


class GaussianEncoder(nn.Module):
    """The encoder of a VAE: from an image to a normal distribution over a latent vector.

        q(z | x) = N(μ, σ²)        μ = W₁ e + b₁        ln σ² = W₂ e + b₂        e = ImageEncoder(x)

    `posterior(image)` returns that distribution. Called like any other encoder, the module returns
    an embedding of width `embed_dim = latent`: the mean, or with `sampled` a reparameterised sample
    (the mean inside `modes()`).

    Args:
        channels, size: channels of the image, and its side or (height, width); 64×64 RGB in the
            paper.
        latent: width of the latent vector (32 to 256).
        depth, mults, strided, outer: as for `ImageEncoder`.
        sampled: whether the embedding is a sample.

    Source: Kingma & Welling 2013 (arXiv:1312.6114); Ha & Schmidhuber 2018 (World Models,
    arXiv:1803.10122), 64×64 RGB to 32 numbers, there with four strided 4×4 convolutions.

    >>> import torch
    >>> encoder = GaussianEncoder(channels=3, size=64, latent=32, depth=4)
    >>> posterior = encoder.posterior(torch.zeros(5, 64, 64, 3, dtype=torch.uint8))
    >>> posterior.sample().shape, posterior.log_prob(posterior.mean).shape
    (torch.Size([5, 32]), torch.Size([5]))
    """

    def __init__(
        self,
        *,
        channels: int,
        size: Size,
        latent: int,
        depth: int,
        mults: Sequence[int] | None = None,
        strided: bool = False,
        outer: bool = False,
        sampled: bool = False,
    ) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"GaussianEncoder needs latent >= 1, got latent={latent}")
        self.image = ImageEncoder(
            channels=channels, size=size, depth=depth, mults=mults, strided=strided, outer=outer
        )
        self.mean = Linear(self.image.embed_dim, latent)
        self.log_variance = Linear(self.image.embed_dim, latent)
        self.channels, self.size, self.embed_dim, self.sampled = channels, size, latent, sampled

    def posterior(self, image: UInt8[Tensor, "*batch height width channel"]) -> Normal:
        """The distribution over latent vectors `*batch embed`, with event axis `embed`."""
        hidden = self.image(image)
        return Normal(self.mean(hidden), (0.5 * self.log_variance(hidden).float()).exp(), event=1)

    def forward(
        self, image: UInt8[Tensor, "*batch height width channel"]
    ) -> Float[Tensor, "*batch embed"]:
        """Encode images."""
        posterior = self.posterior(image)
        return posterior.sample() if self.sampled else posterior.mean
