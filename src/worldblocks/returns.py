"""Return estimators: what a row's future is worth.

A return estimator takes the *destination* rows: entry t of every argument belongs to the row that
the action at row t leads to, so `reward[:, 1:]`, `discount[:, 1:]`, `value[:, 1:]` of a sequence of
rows give the returns of rows `[:, :-1]`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.typing import typed


@typed
def lambda_return(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    value: Float[Tensor, "batch time"],
    lam: float | Float[Tensor, "batch time"] | Float[Tensor, ""],
) -> Float[Tensor, "batch time"]:
    """TD(λ) returns, computed backwards and closed by the last value.

        R[t] = r[t] + γ[t] ((1 - λ[t]) v[t] + λ[t] R[t + 1]),    R[T] = v[T - 1]

    Args:
        reward: reward on arrival in each destination row.
        discount: γ times the probability that the destination is alive: 0 where it is terminal.
        value: value of each destination row.
        lam: λ, one number or one for each destination row (0 where an episode is cut there, so
            that the return bootstraps fully from the value).

    Source: Sutton & Barto 2018, section 12.1; DreamerV3, equation 7.

    >>> ones = torch.ones(1, 3)
    >>> lambda_return(ones, 0.5 * ones, 0 * ones, 1.0).tolist()
    [[1.75, 1.5, 1.0]]
    """
    if reward.shape[1] == 0:
        raise ValueError("lambda_return needs at least one destination row, got time = 0")
    if isinstance(lam, (float, int)):
        if not 0 <= lam <= 1:
            raise ValueError(f"lambda_return takes a lam between 0 and 1, got {lam}")
        lam = torch.full_like(value, lam)
    lam = lam.expand_as(value)
    # Time first, so that a step of the loop reads rows that lie together.
    steps = (reward + discount * (1 - lam) * value).t().contiguous().unbind(0)
    carried = (discount * lam).t().contiguous().unbind(0)
    last = value[:, -1]
    returns = []
    for step, carry in zip(reversed(steps), reversed(carried), strict=True):
        last = torch.addcmul(step, carry, last)
        returns.append(last)
    return torch.stack(returns[::-1]).t().contiguous()
