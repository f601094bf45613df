"""On-policy return estimators: λ-returns, discounted and n-step returns, GAE."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.returns.recursion import backwards, check_lambda, check_rows, lambda_rows
from worldblocks.typing import typed


@typed
def lambda_return(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    value: Float[Tensor, "batch time"],
    lam: float | Float[Tensor, "batch time"] | Float[Tensor, ""],
) -> Float[Tensor, "batch time"]:
    """TD(λ) returns, computed backwards from the last value.

        R[t] = r[t] + γ[t] ((1 - λ[t]) v[t] + λ[t] R[t + 1]),    R[T] = v[T - 1]

    Args:
        reward: reward that arrives with each destination row.
        discount: γ times the probability that the destination is not terminal.
        value: value of each destination row.
        lam: λ, one number or one for each destination row: 0 where an episode is cut, so that the
            return bootstraps fully from the value.

    Source: Sutton & Barto 2018, section 12.1; DreamerV3, equation 7.

    >>> ones = torch.ones(1, 3)
    >>> lambda_return(ones, 0.5 * ones, 0 * ones, 1.0).tolist()
    [[1.75, 1.5, 1.0]]
    """
    check_rows("lambda_return", reward)
    if not isinstance(lam, Tensor):
        check_lambda("lambda_return", lam)
    step = torch.addcmul(reward, discount * (1 - lam), value)
    return backwards(step, discount * lam, value[:, -1])


@typed
def discounted_return(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    last_value: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Discounted sums of rewards, with one bootstrap value at the end.

        R[t] = r[t] + γ[t] R[t + 1],    R[T] = last_value

    An episode that is cut inside the window cannot bootstrap here. Use `lambda_return` with
    λ = 1 - is_last for such windows.

    Args:
        reward, discount: of each destination row, as for `lambda_return`.
        last_value: value of the last destination row; 0 if None.

    Source: Sutton & Barto 2018, equation 3.8.

    >>> ones = torch.ones(1, 3)
    >>> discounted_return(ones, 0.5 * ones, torch.tensor([8.0])).tolist()
    [[2.75, 3.5, 5.0]]
    """
    check_rows("discounted_return", reward)
    last = torch.zeros_like(reward[:, 0]) if last_value is None else last_value
    return backwards(reward, discount, last)


@typed
def n_step_return(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    value: Float[Tensor, "batch time"],
    n: int,
    lam: float | Float[Tensor, "batch time"] | Float[Tensor, ""] = 1.0,
) -> Float[Tensor, "batch time"]:
    """N-step returns: `n` rewards, then a value. The last rows of a window have fewer rewards.

        R₁[t] = r[t] + γ[t] v[t],    R_n[t] = r[t] + γ[t] ((1 - λ[t]) v[t] + λ[t] R_{n-1}[t + 1])

    Beyond the window, `R[T] = v[T - 1]`. The default λ = 1 gives the n-step return. λ = 0 where an
    episode is cut bootstraps there. Any other λ gives the λ-return truncated after n steps.

    Args:
        reward, discount, value, lam: of each destination row, as for `lambda_return`.
        n: number of rewards, at least 1.

    Source: Sutton & Barto 2018, equations 7.1 and 12.9.

    >>> ones = torch.ones(1, 4)
    >>> n_step_return(ones, 0.5 * ones, 8 * ones, 2).tolist()
    [[3.5, 3.5, 3.5, 5.0]]
    """
    check_rows("n_step_return", reward)
    if n < 1:
        raise ValueError(f"n_step_return takes n >= 1 rewards, got n = {n}")
    lam = lambda_rows("n_step_return", lam, value)
    step, carry = reward + discount * (1 - lam) * value, discount * lam
    last = value[:, -1:]
    returns = reward + discount * value
    for _ in range(min(n, reward.shape[1]) - 1):
        returns = torch.addcmul(step, carry, torch.cat([returns[:, 1:], last], 1))
    return returns


@typed
def gae(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    value: Float[Tensor, "batch time"],
    baseline: Float[Tensor, "batch time"],
    lam: float | Float[Tensor, "batch time"] | Float[Tensor, ""],
) -> Float[Tensor, "batch time"]:
    """Generalised advantage estimation: the TD(λ) error of each action.

        A[t] = δ[t] + γ[t] λ[t] A[t + 1],    δ[t] = r[t] + γ[t] v[t] - b[t],    A[T] = 0

    If one critic gives `value` and `baseline`, this equals `lambda_return(...) - baseline`.

    Args:
        reward, discount, value: of each destination row, as for `lambda_return`.
        baseline: value of the row at which the action was chosen: rows `[:, :-1]` of the sequence
            whose rows `[:, 1:]` are `value`.
        lam: λ, one number or one for each destination row: 0 where an episode is cut, so that the
            next episode does not leak in. The entry after a cut belongs to no action.

    Source: Schulman et al. 2016 (arXiv:1506.02438), equations 11 and 16.

    >>> ones = torch.ones(1, 3)
    >>> gae(ones, 0.5 * ones, 0 * ones, 0 * ones, 1.0).tolist()
    [[1.75, 1.5, 1.0]]
    """
    check_rows("gae", reward)
    lam = lambda_rows("gae", lam, value)
    error = reward + discount * value - baseline
    return backwards(error, discount * lam, torch.zeros_like(error[:, 0]))
