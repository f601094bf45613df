"""What the estimators share: one recursion from the last row to the first, and two checks."""

import torch
from jaxtyping import Float
from torch import Tensor


def backwards(
    step: Float[Tensor, "batch time"],
    carry: Float[Tensor, "batch time"],
    last: Float[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """`x[t] = step[t] + carry[t] x[t + 1]`, with `x[T] = last`."""
    # Time first, so that a step of the loop reads rows that lie together.
    steps, carried = (rows.t().contiguous().unbind(0) for rows in (step, carry))
    found = []
    for now, kept in zip(reversed(steps), reversed(carried), strict=True):
        last = torch.addcmul(now, kept, last)
        found.append(last)
    return torch.stack(found[::-1]).t().contiguous()


def check_rows(name: str, reward: Float[Tensor, "batch time"]) -> None:
    """Refuse a window without rows."""
    if reward.shape[1] == 0:
        raise ValueError(f"{name} needs at least one destination row, got time = 0")


def lambda_rows(
    name: str, lam: float | Float[Tensor, "..."], like: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """λ of each row; a number must be one that λ can be."""
    if isinstance(lam, (float, int)):
        if not 0 <= lam <= 1:
            raise ValueError(f"{name} takes a lam between 0 and 1, got {lam}")
        return torch.full_like(like, lam)
    return lam.expand_as(like)
