"""Faults of a λ-return: `(reward, discount, value, lam)`, all of the destination rows."""

import torch

from .mutant import mutant


def backwards(reward, discount, value, lam, last=None, step=None):
    """The λ-return by its equation; a mutant passes another end or another step."""
    after = value[:, -1] if last is None else last
    out = []
    for t in reversed(range(reward.shape[1])):
        row = reward[:, t], discount[:, t], value[:, t], lam[:, t]
        after = step(*row, after) if step else plain(*row, after)
        out.append(after)
    return torch.stack(out[::-1], 1)


def plain(r, g, v, lam, after):
    return r + g * ((1 - lam) * v + lam * after)


def ahead(x):
    return torch.cat([x[:, 1:], x[:, -1:]], 1)


@mutant("return", "each row bootstraps from the value one row too late")
def value_one_row_late(reward, discount, value, lam):
    return backwards(reward, discount, ahead(value), lam)


@mutant("return", "each row takes the reward of the row after")
def reward_one_row_late(reward, discount, value, lam):
    return backwards(ahead(reward), discount, value, lam)


@mutant("return", "each row takes the discount of the row after")
def discount_one_row_late(reward, discount, value, lam):
    return backwards(reward, ahead(discount), value, lam)


@mutant("return", "the return is closed by zero: the last row has no future")
def bootstrap_forgotten(reward, discount, value, lam):
    return backwards(reward, discount, value, lam, last=torch.zeros_like(value[:, -1]))


@mutant("return", "the return is closed by the first value")
def bootstrap_from_the_wrong_value(reward, discount, value, lam):
    return backwards(reward, discount, value, lam, last=value[:, 0])


@mutant("return", "a cut row counts as an end: nothing is bootstrapped there")
def truncation_as_terminal(reward, discount, value, lam):
    discount = torch.where(lam == 0, 0.0, discount)
    return backwards(reward, discount, value, lam)


@mutant("return", "a cut row is not looked at: the return runs into the next episode")
def cut_ignored(reward, discount, value, lam):
    return backwards(reward, discount, value, lam.amax().expand(lam.shape))


@mutant("return", "λ and 1 - λ have changed places")
def lambda_swapped(reward, discount, value, lam):
    return backwards(reward, discount, value, 1 - lam)


@mutant("return", "the discount is applied to the bootstrap and not to the tail")
def discount_of_the_tail_forgotten(reward, discount, value, lam):
    step = lambda r, g, v, lam, after: r + g * (1 - lam) * v + lam * after  # noqa: E731
    return backwards(reward, discount, value, lam, step=step)


@mutant("return", "the discount is applied twice")
def discount_twice(reward, discount, value, lam):
    return backwards(reward, discount.square(), value, lam)


@mutant("return", "the sum runs from the first row to the last")
def time_forward(reward, discount, value, lam):
    rows = (x.flip(1) for x in (reward, discount, value, lam))
    return backwards(*rows).flip(1)


@mutant("return", "a bad reshape lets the returns of one element run into another")
def returns_across_elements(reward, discount, value, lam):
    flat = (x.reshape(1, -1) for x in (reward, discount, value, lam))
    return backwards(*flat).reshape(reward.shape)


@mutant("return", "the values are detached, so that an actor learns nothing through them")
def value_detached(reward, discount, value, lam):
    return backwards(reward, discount, value.detach(), lam)


@mutant("return", "the sum is kept in bfloat16")
def return_rounded(reward, discount, value, lam):
    rows = (x.bfloat16() for x in (reward, discount, value, lam))
    return backwards(*rows).to(reward.dtype)


@mutant("return", "rewards are discounted as if they arrived a row later")
def reward_discounted(reward, discount, value, lam):
    return backwards(reward * discount, discount, value, lam)


@mutant("return", "rewards are changed in place")
def reward_changed_in_place(reward, discount, value, lam):
    with torch.no_grad():
        reward += 0.1
    return backwards(reward, discount, value, lam)
