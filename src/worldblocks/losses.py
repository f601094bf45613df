"""Losses with a name in a paper: balanced KL with free nats, KL of categoricals and normals."""

from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.distributions import Normal, OneHot, Output
from worldblocks.typing import typed


@typed
def balanced_kl(
    post: Output, prior: Output, *, free_nats: float
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """KL between posterior and prior, once towards each of the two, unreduced.

        dyn = max(KL(stop_gradient(post) || prior), free_nats)    trains the prior
        rep = max(KL(post || stop_gradient(prior)), free_nats)    trains the posterior

    The KL is summed over the event axes first (the groups of a categorical latent, the numbers of a
    Gaussian one) and clipped then, for each element of `*batch` alone; a clipped element has
    gradient exactly zero.

    Args:
        post: the posterior: `OneHot` or `Normal`, whose `event` counts the axes of one latent.
        prior: the prior, a distribution of the same kind and shape.
        free_nats: the floor, in nats.

    Raises:
        ValueError: no event axis (each number would have a floor of its own), or no batch axis (the
            batch would be summed over).

    Source: DreamerV3, equation 5; DreamerV2, section "KL balancing".

    >>> import torch
    >>> same = OneHot(torch.zeros(2, 3, 4), unimix=0.01, event=1)
    >>> [loss.tolist() for loss in balanced_kl(same, same, free_nats=1.0)]
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if not post.event:
        raise ValueError(
            f"balanced_kl sums over a latent before the floor, got {type(post).__name__} without "
            f"event axes: give it event=1, for logits `*batch groups classes` or a mean "
            f"`*batch stoch`"
        )
    dyn, rep = post.detach().kl(prior), post.kl(prior.detach())
    if not dyn.ndim:
        raise ValueError(
            f"balanced_kl takes distributions with at least one batch axis, got {_shape(post)}; "
            f"flat logits need .unflatten(-1, (groups, classes)), a single row needs [None]"
        )
    return dyn.clamp(min=free_nats), rep.clamp(min=free_nats)


def _shape(output: Output) -> str:
    return f"{type(output).__name__} of shape {tuple(output.mean.shape)}, event={output.event}"


@typed
def categorical_kl(
    logits: Float[Tensor, "*batch classes"],
    other_logits: Float[Tensor, "*batch classes"],
    *,
    unimix: float = 0.0,
) -> Float[Tensor, "*batch"]:
    """KL divergence of each categorical from another, in nats: `sum(p (log p - log q))`.

    Source: Kullback & Leibler 1951; `unimix` as in `OneHot`.

    >>> import torch
    >>> round(categorical_kl(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 9.0])).item(), 4)
    3.807
    """
    return OneHot(logits, unimix=unimix).kl(OneHot(other_logits, unimix=unimix))


@typed
def gaussian_kl(
    mean: Float[Tensor, "*shape"],
    std: Float[Tensor, "*shape"],
    other_mean: Float[Tensor, "*shape"],
    other_std: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """KL divergence of independent normals from others, elementwise, in nats.

        KL = ln(σ₂ / σ₁) + (σ₁² + (μ₁ - μ₂)²) / (2 σ₂²) - 1/2

    Source: Kingma & Welling 2013 (arXiv:1312.6114), appendix B, for any second normal.

    >>> import torch
    >>> gaussian_kl(*(torch.tensor(x) for x in (1.0, 1.0, 0.0, 1.0))).item()
    0.5
    """
    return Normal(mean, std).kl(Normal(other_mean, other_std))


@typed
def on_rows(
    x: Float[Tensor, "*batch"], rows: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*batch"]:
    """A loss on some of its rows, scaled so that its mean over all is the mean over those.

        x · rows · (number of all) / max(1, number of rows)

    Without such a row it is 0, and so is its gradient. What stands in the other rows must be
    finite.

    Args:
        x: a loss, unreduced.
        rows: those that count, over the first axes of `x` (or all of them); None: all count.

    Raises:
        ValueError: these are not the first axes of `x`.

    Source: ours; a masked mean.

    >>> import torch
    >>> on_rows(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])).mean().item()
    3.5
    """
    if rows is None:
        return x
    if x.shape[: rows.ndim] != rows.shape:
        raise ValueError(
            f"rows of shape {tuple(rows.shape)} were chosen of a loss of shape {tuple(x.shape)}; "
            f"they are its first axes, or all"
        )
    rows = rows.reshape(*rows.shape, *[1] * (x.ndim - rows.ndim))
    return x * rows * (rows.numel() / rows.sum().clamp(min=1))
