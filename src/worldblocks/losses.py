"""Losses with a name in a paper: balanced KL with free nats, KL of normals."""

from jaxtyping import Float
from torch import Tensor

from worldblocks.distributions import mix_uniform
from worldblocks.typing import typed


@typed
def balanced_kl(
    post_logits: Float[Tensor, "*batch groups classes"],
    prior_logits: Float[Tensor, "*batch groups classes"],
    *,
    free_nats: float,
    unimix: float,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """KL between posterior and prior, once towards each of the two, unreduced.

        dyn = max(KL(stop_gradient(post) || prior), free_nats)    trains the prior
        rep = max(KL(post || stop_gradient(prior)), free_nats)    trains the posterior

    The KL is summed over the groups first and clipped then, for each element of `*batch` alone; a
    clipped element has gradient exactly zero.

    Args:
        post_logits: raw logits of the posterior.
        prior_logits: raw logits of the prior.
        free_nats: the floor, in nats.
        unimix: share of a uniform distribution mixed into both (DreamerV3: 0.01).

    Source: DreamerV3, equation 5; DreamerV2, section "KL balancing".

    >>> import torch
    >>> same = torch.zeros(2, 3, 4)
    >>> [loss.tolist() for loss in balanced_kl(same, same, free_nats=1.0, unimix=0.01)]
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if post_logits.ndim < 3:
        raise ValueError(
            f"balanced_kl takes logits `*batch groups classes` with at least one batch axis, got "
            f"shape {tuple(post_logits.shape)}; flat logits need .unflatten(-1, (groups, classes))"
        )
    log_post, post = mix_uniform(post_logits, unimix)
    log_prior, _ = mix_uniform(prior_logits, unimix)
    dyn = (post.detach() * (log_post.detach() - log_prior)).sum((-2, -1))
    rep = (post * (log_post - log_prior.detach())).sum((-2, -1))
    return dyn.clamp(min=free_nats), rep.clamp(min=free_nats)


@typed
def categorical_kl(
    logits: Float[Tensor, "*batch classes"],
    other_logits: Float[Tensor, "*batch classes"],
    *,
    unimix: float = 0.0,
) -> Float[Tensor, "*batch"]:
    """KL divergence of each categorical from another, in nats: `sum(p (log p - log q))`.

    Source: Kullback & Leibler 1951; unimix as in `balanced_kl`.

    >>> import torch
    >>> round(categorical_kl(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 9.0])).item(), 4)
    3.807
    """
    log_p, p = mix_uniform(logits, unimix)
    log_q, _ = mix_uniform(other_logits, unimix)
    return (p * (log_p - log_q)).sum(-1)


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
    ratio = std / other_std
    shift = (mean - other_mean) / other_std
    return 0.5 * (ratio.square() + shift.square() - 1) - ratio.log()
