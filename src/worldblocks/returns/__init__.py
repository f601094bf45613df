"""Return estimators.

A return estimator takes the *destination* rows: entry t of every argument belongs to the row that
the action at row t leads to. So `reward[:, 1:]`, `discount[:, 1:]` and `value[:, 1:]` of a sequence
give the returns of rows `[:, :-1]`. Arguments about the action itself (`baseline`, `action_value`,
`log_ratio`) belong to the action that led to the destination row.

A discount of 0 ends an episode. λ = 0 cuts it: the return bootstraps from the value of that row and
does not depend on later rows. No estimator stops gradients.
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
