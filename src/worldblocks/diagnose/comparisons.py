"""Checks of a world model's predictions on held-out sequences: pure functions of tensors."""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from worldblocks.evaluate import Check
from worldblocks.typing import typed

STEPS = (1, 5, 15)


@typed
def image_checks(
    truth: UInt8[Tensor, "batch time height width channel"],
    imagined: Float[Tensor, "batch time height width channel"],
    shuffled: Float[Tensor, "batch time height width channel"],
    context: int,
    mean_frame: Float[Tensor, "height width channel"],
) -> list[Check]:
    """Compare the open-loop image error with two model-free guesses and with shuffled actions.

    The error at k steps is the mean squared difference, of pixels in [0, 1], in row
    `context + k - 1`. It is reported at 1, 5 and 15 steps. At 15 steps it must be lower than when
    repeating the last context frame, than for the mean frame, and than with shuffled actions.

    Args:
        truth: Images of held-out sequences.
        imagined: Predicted means in [0, 1]; rows from `context` on are open loop, with the true
            actions.
        shuffled: The same with shuffled actions.
        context: Number of rows the model observed.
        mean_frame: Mean of the training images, in [0, 1].
    """
    real = truth.float() / 255
    return _open_loop("image", real, imagined, shuffled, context, mean_frame)


@typed
def vector_checks(
    truth: Float[Tensor, "batch time feature"],
    imagined: Float[Tensor, "batch time feature"],
    shuffled: Float[Tensor, "batch time feature"],
    context: int,
    mean: Float[Tensor, " feature"],
) -> list[Check]:
    """`image_checks` for vectors, in the space of the predictions.

    Args:
        truth: Vectors of held-out sequences: symlog numbers and one-hots.
        imagined, shuffled, context: As in `image_checks`.
        mean: Mean of the training vectors.
    """
    return _open_loop("vector", truth, imagined, shuffled, context, mean)


def _open_loop(
    kind: str, real: Tensor, imagined: Tensor, shuffled: Tensor, context: int, mean: Tensor
) -> list[Check]:
    rows = [context + steps - 1 for steps in STEPS]
    if context < 1 or real.shape[1] <= rows[-1]:
        raise ValueError(
            f"the report needs at least one context row and {STEPS[-1]} rows after it, got "
            f"{real.shape[1]} rows with context={context}"
        )
    last_row, one = real[:, context - 1], "frame" if kind == "image" else kind
    checks = []
    for steps, row in zip(STEPS, rows, strict=True):
        error = _mse(imagined[:, row], real[:, row])
        last = _mse(last_row, real[:, row])
        average = _mse(mean.expand_as(last_row), real[:, row])
        passed = error < last and error < average if steps == STEPS[-1] else None
        against = f"{_than(error, last)} repeat last {one}, {_than(error, average)} mean {one}"
        name = f"open-loop {kind} error at {steps} step{'s' * (steps > 1)}"
        checks.append(Check(name, passed, f"{error:.3g} {against}"))
    return [*checks, _action_check(kind, real, imagined, shuffled, rows[-1])]


def _action_check(kind: str, real: Tensor, imagined: Tensor, shuffled: Tensor, row: int) -> Check:
    """Check that the model uses the actions, by the paired difference over sequences.

    Passes if the error with shuffled actions is higher by more than two standard errors. For a
    model that ignores actions the two errors differ by chance only.
    """
    each = [
        (guess[:, row] - real[:, row]).square().flatten(1).mean(1) for guess in (imagined, shuffled)
    ]
    gap, margin = paired_gap(*each)
    right, wrong = (float(error.mean()) for error in each)
    name = f"{kind} error at {STEPS[-1]} steps with the true actions"
    detail = f"{right:.3g} {_than(right, wrong)} with shuffled actions (gap ± {margin:.2g})"
    return Check(name, gap > margin, detail)


def paired_gap(
    right: Float[Tensor, " batch"], wrong: Float[Tensor, " batch"]
) -> tuple[float, float]:
    """The mean of `wrong - right`, and twice its standard error."""
    gap = wrong - right
    return float(gap.mean()), 2 * float(gap.std(correction=0)) / len(gap) ** 0.5


@typed
def reward_check(
    reward: Float[Tensor, "*batch"], predicted_reward: Float[Tensor, "*batch"]
) -> Check:
    """Squared error of the predicted reward in rows whose reward is not 0; must beat always 0."""
    name = "reward error on non-zero rewards"
    rows = reward != 0
    if not rows.any():
        return Check(name, None, "every reward of the held-out sequences is 0")
    error = _mse(predicted_reward[rows], reward[rows])
    zero = _mse(torch.zeros_like(reward[rows]), reward[rows])
    detail = f"{error:.3g} {_than(error, zero)} always zero ({int(rows.sum())} rewards)"
    return Check(name, error < zero, detail)


@typed
def value_check(
    value: Float[Tensor, "*batch"],
    realised: Float[Tensor, "*batch"],
    valid: Bool[Tensor, "*batch"],
) -> Check:
    """Pearson correlation between value and realised return; must be above 0."""
    name = "correlation of value with realised return"
    pair = torch.stack([value[valid], realised[valid]]).double()
    if pair.shape[1] < 2 or bool((pair[1] == pair[1, :1]).all()):
        return Check(name, None, f"the {pair.shape[1]} known returns are all equal")
    centred = pair - pair.mean(1, keepdim=True)
    norms = centred.norm(dim=1)
    # A constant value has correlation 0, not 0 / 0.
    correlation = float((centred[0] @ centred[1]) / norms.prod()) if norms.all() else 0.0
    sign = ">" if correlation > 0 else "not >"
    return Check(name, correlation > 0, f"{correlation:.3f} {sign} 0 ({pair.shape[1]} rows)")


@typed
def realised_return(
    reward: Float[Tensor, "batch time"],
    is_last: Bool[Tensor, "batch time"],
    is_terminal: Bool[Tensor, "batch time"],
    gamma: float,
    *,
    horizon: int | None = None,
) -> tuple[Float[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    """Discounted rewards of the next `horizon` rows, and a mask of the rows where they are known.

    R_t = sum over k = 1 … horizon of gamma^(k-1) r_(t+k). Rewards after a terminal row count as 0.
    The return is unknown if a time limit (`is_last` without `is_terminal`) or the end of the data
    cuts the window off, and in the last row of an episode. The horizon is fixed because returns up
    to the end of the data would shrink towards the end.

    Args:
        reward: Reward of each row.
        is_last: The last row of an episode.
        is_terminal: The episode terminated in this row.
        gamma: Discount per row, in [0, 1).
        horizon: Number of rows; 1 / (1 - gamma) if None.

    >>> flags = torch.tensor([[False, False, False, True]])
    >>> reward = torch.tensor([[0.0, 1.0, 0.0, 4.0]])
    >>> returns, known = realised_return(reward, flags, flags, 0.5, horizon=2)
    >>> returns.tolist(), known.tolist()
    ([[1.0, 2.0, 4.0, 0.0]], [[True, True, True, False]])
    """
    if not 0 <= gamma < 1 or (horizon is not None and horizon < 1):
        raise ValueError(
            f"realised_return takes 0 <= gamma < 1 and a horizon of at least one row, got "
            f"gamma={gamma}, horizon={horizon}"
        )
    time = reward.shape[1]
    returns = torch.zeros_like(reward)
    going = ~(is_last | is_terminal)
    known = going.clone()
    horizon = horizon or round(1 / (1 - gamma))
    for k in range(1, min(horizon, time) + 1):
        head, tail = slice(0, time - k), slice(k, time)
        returns[:, head] += gamma ** (k - 1) * going[:, head] * reward[:, tail]
        known[:, time - k :] &= ~going[:, time - k :]
        if k < horizon:  # a window that ends in the last row is complete
            known[:, head] &= ~(going[:, head] & (is_last & ~is_terminal)[:, tail])
        going[:, head] &= ~(is_last | is_terminal)[:, tail]
    return returns, known


def _mse(guess: Tensor, real: Tensor) -> float:
    return float((guess.float() - real.float()).square().mean())


def _than(error: float, other: float) -> str:
    return f"{'<' if error < other else '>='} {other:.3g}"
