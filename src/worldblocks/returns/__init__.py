"""Return estimators: what a row's future is worth.

A return estimator takes the *destination* rows: entry t of every argument belongs to the row that
the action at row t leads to, so `reward[:, 1:]`, `discount[:, 1:]`, `value[:, 1:]` of a sequence of
rows give the returns of rows `[:, :-1]`. What belongs to the action itself (`baseline`,
`action_value`, `log_ratio`) is given for the action that led to the row.

A discount of 0 ends an episode; λ = 0 cuts it: the return bootstraps from the value of that row and
nothing after it comes back. None of them stops a gradient.
"""

from worldblocks.returns.off_policy import VTrace, retrace, vtrace
from worldblocks.returns.on_policy import discounted_return, gae, lambda_return, n_step_return

__all__ = [
    "VTrace",
    "discounted_return",
    "gae",
    "lambda_return",
    "n_step_return",
    "retrace",
    "vtrace",
]
