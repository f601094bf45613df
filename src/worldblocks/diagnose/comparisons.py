"""What a world model has learnt, measured on sequences it was not trained on.

Pure functions of tensors: whoever has a model makes the predictions, these compare them.
"""

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
    """Open-loop image error against two guesses that need no model, and against wrong actions.

    The error at k steps is the mean squared difference, of pixels in [0, 1], in row
    `context + k - 1`. At the last of 1, 5 and 15 steps it must be below repeating the last context
    frame, below the mean frame, and below the same model fed shuffled actions; at 1 and 5 it is
    reported.

    Args:
        truth: Images of held-out sequences.
        imagined: Predicted means in [0, 1]; rows from `context` on are open loop, with the actions
            that were taken.
        shuffled: The same with actions in a wrong order.
        context: Number of rows the model was shown.
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
    """`image_checks` for vectors, in the space in which they are predicted.

    Args:
        truth: Vectors of held-out sequences: numbers as their symlog, classes as one-hots.
        imagined, shuffled, context: As for images.
        mean: Mean of the training vectors.
    """
    return _open_loop("vector", truth, imagined, shuffled, context, mean)


def _open_loop(
    kind: str, real: Tensor, imagined: Tensor, shuffled: Tensor, context: int, mean: Tensor
) -> list[Check]:
    rows = [context + steps - 1 for steps in STEPS]
    if context < 1 or real.shape[1] <= rows[-1]:
        raise ValueError(
            f"the report looks {STEPS[-1]} steps past at least one context row, got "
            f"{real.shape[1]} rows with context={context}"
        )
    last_seen, one = real[:, context - 1], "frame" if kind == "image" else kind
    checks = []
    for steps, row in zip(STEPS, rows, strict=True):
        error = _mse(imagined[:, row], real[:, row])
        last = _mse(last_seen, real[:, row])
        usual = _mse(mean.expand_as(last_seen), real[:, row])
        passed = error < last and error < usual if steps == STEPS[-1] else None
        against = f"{_than(error, last)} repeat last {one}, {_than(error, usual)} mean {one}"
        name = f"open-loop {kind} error at {steps} step{'s' * (steps > 1)}"
        checks.append(Check(name, passed, f"{error:.3g} {against}"))
    return [*checks, _action_check(kind, real, imagined, shuffled, rows[-1])]


def _action_check(kind: str, real: Tensor, imagined: Tensor, shuffled: Tensor, row: int) -> Check:
    """Whether the model needs the true actions: the paired difference over sequences.

    Passes where the error with shuffled actions is higher by more than two standard errors: a model
    that ignores actions has the same error twice, and either may come out lower by chance.
    """
    each = [
        (guess[:, row] - real[:, row]).square().flatten(1).mean(1) for guess in (imagined, shuffled)
    ]
    gap = each[1] - each[0]
    doubt = 2 * float(gap.std(correction=0)) / len(gap) ** 0.5
    right, wrong = (float(error.mean()) for error in each)
    name = f"{kind} error at {STEPS[-1]} steps with the true actions"
    detail = f"{right:.3g} {_than(right, wrong)} with shuffled actions (gap ± {doubt:.2g})"
    return Check(name, float(gap.mean()) > doubt, detail)


@typed
def reward_check(
    reward: Float[Tensor, "*batch"], predicted_reward: Float[Tensor, "*batch"]
) -> Check:
    """Squared error of the predicted reward where the reward is not 0; must beat always 0."""
    name = "reward error on non-zero rewards"
    rows = reward != 0
    if not rows.any():
        return Check(name, None, "the held-out sequences have no reward other than 0")
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
    """Pearson correlation of the imagined value with the realised return; must be above 0."""
    name = "correlation of value with realised return"
    pair = torch.stack([value[valid], realised[valid]]).double()
    if pair.shape[1] < 2 or bool((pair[1] == pair[1, :1]).all()):
        return Check(name, None, f"the {pair.shape[1]} known returns do not differ")
    centred = pair - pair.mean(1, keepdim=True)
    norms = centred.norm(dim=1)
    # A value that is the same everywhere says nothing: 0, and not 0 / 0.
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
    """Discounted rewards of the next `horizon` rows, and of which rows they are known.

    R_t = sum over k = 1 … horizon of gamma^(k-1) r_(t+k): what came after row t, as a value of row
    t predicts it. After a terminal row there is nothing more. A window that a time limit (`is_last`
    without `is_terminal`) or the end of the data cuts off is not known, and neither is the return
    of a last row. The fixed horizon treats all known rows alike: returns up to the end of the data
    would be the smaller the later the row, whatever the value says.

    Args:
        reward: Reward that arrived with each row.
        is_last: The episode ended with this row.
        is_terminal: It ended for good.
        gamma: Discount per row, in [0, 1).
        horizon: Rows to look ahead; 1 / (1 - gamma) if None.

    >>> flags = torch.tensor([[False, False, False, True]])
    >>> reward = torch.tensor([[0.0, 1.0, 0.0, 4.0]])
    >>> returns, known = realised_return(reward, flags, flags, 0.5, horizon=2)
    >>> returns.tolist(), known.tolist()
    ([[1.0, 2.0, 4.0, 0.0]], [[True, True, True, False]])
    """
    if not 0 <= gamma < 1 or (horizon is not None and horizon < 1):
        raise ValueError(
            f"a realised return needs 0 <= gamma < 1 and a horizon of at least one row, got "
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
        if k < horizon:  # a window that ends with the last row is whole
            known[:, head] &= ~(going[:, head] & (is_last & ~is_terminal)[:, tail])
        going[:, head] &= ~(is_last | is_terminal)[:, tail]
    return returns, known


def _mse(guess: Tensor, real: Tensor) -> float:
    return float((guess.float() - real.float()).square().mean())


def _than(error: float, other: float) -> str:
    return f"{'<' if error < other else '>='} {other:.3g}"
