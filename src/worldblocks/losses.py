"""Losses: KL divergences, KL balancing with free nats, and the clipped losses of PPO."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from worldblocks.distributions import Normal, OneHot, Output
from worldblocks.typing import typed


@typed
def balanced_kl(
    post: Output, prior: Output, *, free_nats: float
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """KL divergence between posterior and prior, one term training each of them, unreduced.

        dyn = max(KL(stop_gradient(post) || prior), free_nats)    trains the prior
        rep = max(KL(post || stop_gradient(prior)), free_nats)    trains the posterior

    The KL is first summed over the event axes (the groups of a categorical latent, the entries of a
    Gaussian one) and then clipped for each element of `*batch`. A clipped element has gradient
    exactly zero.

    Args:
        post: the posterior, a `OneHot` or `Normal` whose `event` counts the axes of one latent.
        prior: the prior, a distribution of the same kind and shape.
        free_nats: lower bound on each term, in nats.

    Raises:
        ValueError: there is no event axis, so that each entry would be clipped alone, or no batch
            axis, so that the batch would be summed over.

    Source: DreamerV3, equation 5; DreamerV2, section "KL balancing".

    >>> import torch
    >>> same = OneHot(torch.zeros(2, 3, 4), unimix=0.01, event=1)
    >>> [loss.tolist() for loss in balanced_kl(same, same, free_nats=1.0)]
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if not post.event:
        raise ValueError(
            f"balanced_kl sums over a latent before it clips, got {type(post).__name__} without "
            f"event axes; use event=1 for logits `*batch groups classes` or a mean `*batch stoch`"
        )
    dyn, rep = post.detach().kl(prior), post.kl(prior.detach())
    if not dyn.ndim:
        raise ValueError(
            f"balanced_kl takes distributions with at least one batch axis, got "
            f"{type(post).__name__} of shape {tuple(post.mean.shape)}, event={post.event}; "
            f"flat logits need .unflatten(-1, (groups, classes)), a single row needs [None]"
        )
    return dyn.clamp(min=free_nats), rep.clamp(min=free_nats)


@typed
def categorical_kl(
    logits: Float[Tensor, "*batch classes"],
    other_logits: Float[Tensor, "*batch classes"],
    *,
    unimix: float = 0.0,
) -> Float[Tensor, "*batch"]:
    """KL divergence between pairs of categoricals, in nats: `sum(p (log p - log q))`.

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
    """KL divergence between pairs of normals, elementwise, in nats.

        KL = ln(σ₂ / σ₁) + (σ₁² + (μ₁ - μ₂)²) / (2 σ₂²) - 1/2

    Source: Kingma & Welling 2013 (arXiv:1312.6114), appendix B, extended to any second normal.

    >>> import torch
    >>> gaussian_kl(*(torch.tensor(x) for x in (1.0, 1.0, 0.0, 1.0))).item()
    0.5
    """
    return Normal(mean, std).kl(Normal(other_mean, other_std))


@typed
def on_rows(
    x: Float[Tensor, "*batch"], rows: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*batch"]:
    """Mask a loss, scaled so that its mean over all rows is the mean over the selected rows.

        x · rows · (number of all rows) / max(1, number of selected rows)

    If no row is selected, the loss and its gradient are 0. The values in the other rows must be
    finite.

    Args:
        x: an unreduced loss.
        rows: mask over the first axes of `x` (or over all of them); None selects every row.

    Raises:
        ValueError: the shape of `rows` does not match the first axes of `x`.

    Source: ours; a masked mean.

    >>> import torch
    >>> on_rows(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])).mean().item()
    3.5
    """
    if rows is None:
        return x
    if x.shape[: rows.ndim] != rows.shape:
        raise ValueError(
            f"on_rows got rows of shape {tuple(rows.shape)} for a loss of shape {tuple(x.shape)}; "
            f"rows must have the first axes of the loss, or all of them"
        )
    rows = rows.reshape(*rows.shape, *[1] * (x.ndim - rows.ndim))
    return x * rows * (rows.numel() / rows.sum().clamp(min=1))


@typed
def clipped_policy(
    log_prob: Float[Tensor, "*batch"],
    old_log_prob: Float[Tensor, "*batch"],
    advantage: Float[Tensor, "*batch"],
    *,
    clip: float,
) -> Float[Tensor, "*batch"]:
    """The clipped policy loss of PPO, elementwise: moving beyond `clip` has no gain.

        ρ = exp(log π(a) - log π_old(a)),    L = -min(ρ A, clamp(ρ, 1 - clip, 1 + clip) A)

    Args:
        log_prob: log-probability of the taken action under the policy that is trained.
        old_log_prob: log-probability under the policy that took the action; detached.
        advantage: advantage of the taken action; detached.
        clip: largest distance of the ratio from 1, above 0.

    Source: Schulman et al. 2017 (arXiv:1707.06347), equation 7.

    >>> ratio, advantage = torch.tensor([2.0, 0.5, 2.0]), torch.tensor([1.0, 1.0, -1.0])
    >>> clipped_policy(ratio.log(), torch.zeros(3), advantage, clip=0.25).tolist()
    [-1.25, -0.5, 2.0]
    """
    _positive("clipped_policy", clip)
    ratio = (log_prob - old_log_prob.detach()).exp()
    advantage = advantage.detach()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


@typed
def clipped_value(
    value: Float[Tensor, "*batch"],
    old_value: Float[Tensor, "*batch"],
    target: Float[Tensor, "*batch"],
    *,
    clip: float,
) -> Float[Tensor, "*batch"]:
    """The clipped value loss of PPO, elementwise: moving beyond `clip` has no gain.

        L = max((v - R)², (v_old + clamp(v - v_old, -clip, clip) - R)²)

    Args:
        value: prediction that is trained.
        old_value: prediction when the data was collected; detached.
        target: the return R; detached.
        clip: largest distance from the old value, above 0.

    Source: Schulman et al. 2017, in the authors' code (openai/baselines, ppo2), without its factor
    1/2.

    >>> one, zero = torch.tensor([1.0]), torch.tensor([0.0])
    >>> clipped_value(one, zero, one, clip=0.25).item()
    0.5625
    """
    _positive("clipped_value", clip)
    old_value, target = old_value.detach(), target.detach()
    near = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum((value - target) ** 2, (near - target) ** 2)


def _positive(name: str, clip: float) -> None:
    if clip <= 0:
        raise ValueError(f"{name} takes a clip above 0, got {clip}; PPO's is 0.2")
