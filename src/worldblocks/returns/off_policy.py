"""Off-policy return estimators: V-trace and Retrace."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.returns.recursion import backwards, check_rows, lambda_rows
from worldblocks.typing import typed


class VTrace(NamedTuple):
    """V-trace estimates at the rows where the actions were chosen."""

    value: Float[Tensor, "batch time"]  # target for the critic
    advantage: Float[Tensor, "batch time"]  # importance-weighted; multiplies grad log π


@typed
def vtrace(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    value: Float[Tensor, "batch time"],
    baseline: Float[Tensor, "batch time"],
    log_ratio: Float[Tensor, "batch time"],
    lam: float | Float[Tensor, "batch time"] | Float[Tensor, ""] = 1.0,
    *,
    rho_max: float = 1.0,
    c_max: float = 1.0,
) -> VTrace:
    """V-trace: values and advantages of a policy π from data of a behaviour policy μ.

        ρ[t] = min(rho_max, π/μ)        c[t] = λ[t] min(c_max, π/μ)        for the action of entry t
        V[t] = b[t] + ρ[t] (r[t] + γ[t] v[t] - b[t]) + γ[t] c[t] (V[t + 1] - b[t + 1])
        A[t] = ρ[t] (r[t] + γ[t] ((1 - λ[t]) v[t] + λ[t] V[t + 1]) - b[t])

    The recursion bootstraps from the last value. `rho_max` determines the policy whose value is
    estimated, `c_max` how far errors propagate. On-policy, with both at least 1, V equals
    `lambda_return` and A equals `gae`.

    Args:
        reward, discount, value: of each destination row, as for `lambda_return`.
        baseline: value of the row at which the action was chosen, as for `gae`.
        log_ratio: ln π - ln μ of the action that led to each destination row.
        lam: λ, one number or one for each destination row: 0 where an episode is cut, so that the
            next episode does not leak in. The entry after a cut belongs to no action.
        rho_max, c_max: the truncation levels ρ̄ and c̄, with c_max <= rho_max; inf does not truncate.

    Source: Espeholt et al. 2018 (IMPALA, arXiv:1802.01561), equation 1, remark 2 for λ, section 4.2
    for the advantage, whose bootstrap is here mixed by λ as in V.

    >>> ones = torch.ones(1, 2)
    >>> half = vtrace(ones, ones, 0 * ones, 0 * ones, math.log(0.5) * ones)
    >>> [[round(x, 4) for x in rows[0].tolist()] for rows in half]
    [[0.75, 0.5], [0.75, 0.5]]
    """
    check_rows("vtrace", reward)
    if not 0 < c_max <= rho_max:
        raise ValueError(
            f"vtrace takes 0 < c_max <= rho_max, got c_max={c_max} and rho_max={rho_max}"
        )
    lam = lambda_rows("vtrace", lam, value)
    rho, c = ratio_at_most(log_ratio, rho_max), ratio_at_most(log_ratio, c_max)
    error = rho * (reward + discount * value - baseline)
    target = baseline + backwards(error, discount * lam * c, torch.zeros_like(error[:, 0]))
    after = torch.cat([target[:, 1:], value[:, -1:]], 1)
    bootstrap = (1 - lam) * value + lam * after
    return VTrace(target, rho * (reward + discount * bootstrap - baseline))


@typed
def retrace(
    reward: Float[Tensor, "batch time"],
    discount: Float[Tensor, "batch time"],
    value: Float[Tensor, "batch time"],
    action_value: Float[Tensor, "batch time"],
    log_ratio: Float[Tensor, "batch time"],
    lam: float | Float[Tensor, "batch time"] | Float[Tensor, ""] = 1.0,
) -> Float[Tensor, "batch time"]:
    """Retrace(λ): action-value targets of a policy π from data of a behaviour policy μ.

        c[t] = λ[t] min(1, π/μ)        for the action chosen AT destination row t: entry t + 1
        Q[t] = q[t] + δ[t] + γ[t] c[t] (Q[t + 1] - q[t + 1]),    δ[t] = r[t] + γ[t] v[t] - q[t]

    The recursion bootstraps from the last value. The ratio of an action does not enter its own
    target, so the ratio of entry 0 is not used.

    Args:
        reward, discount: of each destination row, as for `lambda_return`.
        value: expected action value under π of each destination row, Σ_a π(a) q(a).
        action_value: q of that action at the row where it was chosen.
        log_ratio: ln π - ln μ of the action that led to each destination row, as for `vtrace`.
        lam: λ, one number or one for each destination row: 0 where an episode is cut, so that the
            next episode does not leak in. The entry after a cut belongs to no action.

    Source: Munos et al. 2016 (arXiv:1606.02647), equation 3 with the traces of Retrace(λ).

    >>> ones = torch.ones(1, 2)
    >>> target = retrace(ones, ones, 0 * ones, 0 * ones, math.log(0.5) * ones)
    >>> [round(x, 4) for x in target[0].tolist()]
    [1.5, 1.0]
    """
    check_rows("retrace", reward)
    lam = lambda_rows("retrace", lam, value)
    # The action after the window is unknown. Its ratio multiplies an error of 0, so 1 will do.
    ratio = torch.cat([ratio_at_most(log_ratio[:, 1:], 1.0), torch.ones_like(value[:, :1])], 1)
    error = reward + discount * value - action_value
    return action_value + backwards(error, discount * lam * ratio, torch.zeros_like(error[:, 0]))


def ratio_at_most(
    log_ratio: Float[Tensor, "batch time"], most: float
) -> Float[Tensor, "batch time"]:
    """`min(most, exp(log_ratio))`, truncated before the exponential: no overflow, no NaN."""
    return log_ratio.clamp(max=math.log(most)).exp()
