"""What the estimators share: one recursion from the last row to the first, and their checks."""

import torch
from jaxtyping import Float
from torch import Tensor

LONG = 32  # rows from which on a few operations on all rows take less time than one a row


def backwards(
    step: Float[Tensor, "batch time"],
    carry: Float[Tensor, "batch time"],
    last: Float[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """`x[t] = step[t] + carry[t] x[t + 1]`, with `x[T] = last`."""
    # Time first, so that rows of one time lie together.
    steps, carries = (rows.t().contiguous() for rows in (step, carry))
    found = doubling if len(steps) >= LONG else one_by_one
    return found(steps, carries, last).t().contiguous()


def one_by_one(
    step: Float[Tensor, "time batch"],
    carry: Float[Tensor, "time batch"],
    last: Float[Tensor, " batch"],
) -> Float[Tensor, "time batch"]:
    """The recursion as it is written."""
    found = []
    for now, kept in zip(reversed(step.unbind(0)), reversed(carry.unbind(0)), strict=True):
        last = torch.addcmul(now, kept, last)
        found.append(last)
    return torch.stack(found[::-1])


def doubling(
    step: Float[Tensor, "time batch"],
    carry: Float[Tensor, "time batch"],
    last: Float[Tensor, " batch"],
) -> Float[Tensor, "time batch"]:
    """The same in log2 of as many operations: `step[t]` reaches over 1, 2, 4, … rows from t on.

    `carry[t]` is the product of as many factors from t on, for the rows that reach no end yet.

    Source: Hillis & Steele 1986, "Data parallel algorithms".
    """
    step, reach = torch.cat([step, last.unsqueeze(0)]), 1
    while reach < len(step):
        further = torch.addcmul(step[:-reach], carry, step[reach:])
        step = torch.cat([further, step[-reach:]])
        carry = carry[:-reach] * carry[reach:]
        reach *= 2
    return step[:-1]


def check_rows(name: str, reward: Float[Tensor, "batch time"]) -> None:
    """Refuse a window without rows."""
    if reward.shape[1] == 0:
        raise ValueError(f"{name} needs at least one destination row, got time = 0")


def lambda_rows(
    name: str, lam: float | Float[Tensor, "..."], like: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """λ of each row; a number must be one that λ can be."""
    if isinstance(lam, (float, int)):
        check_lambda(name, lam)
        return torch.full_like(like, lam)
    return lam.expand_as(like)


def check_lambda(name: str, lam: float) -> None:
    """Refuse a number that λ cannot be."""
    if not 0 <= lam <= 1:
        raise ValueError(f"{name} takes a lam between 0 and 1, got {lam}")
