"""The backward recursion shared by all estimators, and their checks."""

import torch
from jaxtyping import Float
from torch import Tensor

LONG = 32  # number of rows from which `doubling` is faster than `one_by_one`


def backwards(
    step: Float[Tensor, "batch time"],
    carry: Float[Tensor, "batch time"],
    last: Float[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """`x[t] = step[t] + carry[t] x[t + 1]`, with `x[T] = last`."""
    # Time first, so that each step of the recursion reads contiguous memory.
    steps, carries = (rows.t().contiguous() for rows in (step, carry))
    found = doubling if len(steps) >= LONG else one_by_one
    return found(steps, carries, last).t().contiguous()


def one_by_one(
    step: Float[Tensor, "time batch"],
    carry: Float[Tensor, "time batch"],
    last: Float[Tensor, " batch"],
) -> Float[Tensor, "time batch"]:
    """The recursion in its plain form."""
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
    """The same recursion in log2(time) operations.

    After each one, `step[t]` covers twice as many rows from t on (1, 2, 4, …), and `carry[t]` is
    the product of the factors of these rows.

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
    """Raise if there are no rows."""
    if reward.shape[1] == 0:
        raise ValueError(f"{name} needs at least one destination row, got time = 0")


def lambda_rows(
    name: str, lam: float | Float[Tensor, "..."], like: Float[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """λ of each row; a number is checked to be in [0, 1]."""
    if isinstance(lam, (float, int)):
        check_lambda(name, lam)
        return torch.full_like(like, lam)
    return lam.expand_as(like)


def check_lambda(name: str, lam: float) -> None:
    """Raise unless λ is in [0, 1]."""
    if not 0 <= lam <= 1:
        raise ValueError(f"{name} takes a lam between 0 and 1, got {lam}")
