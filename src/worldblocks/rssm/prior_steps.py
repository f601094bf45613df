"""Many steps of `RSSM.imagine_step` without a gradient, for a CPU."""

from collections.abc import Callable
from typing import Any, Generic

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.layers import by_block
from worldblocks.rssm.cores import BlockGRU
from worldblocks.rssm.protocols import C, S
from worldblocks.rssm.scan import advances, weights_of
from worldblocks.rssm.scan_steps import advance, memory, steps_of


def repeats(core: Any, deter: Float[Tensor, "batch deter"]) -> bool:
    """Whether `PriorSteps` has the formulas of a core, and pays: nothing is differentiated."""
    return not torch.is_grad_enabled() and advances(core, deter)


class PriorSteps(Generic[C, S]):
    """`RSSM.imagine_step` between whose calls no parameter changes: weights are prepared once.

    The core runs as in `observe`, by `advance`, in memory that every step uses again.

    Args:
        core: one for which `repeats` holds.
        prior: from the deterministic part that a step leads to, the state.
        batch: rows of a carry.
    """

    def __init__(
        self, core: BlockGRU, prior: Callable[[Float[Tensor, "batch deter"]], S], batch: int
    ) -> None:
        self.core, self.prior, self.weights = core, prior, weights_of(core)
        tape = memory(1, batch, self.weights, groups=1)  # what a posterior would leave is not used
        self.step = next(steps_of(tape, self.weights))
        self.action = tape.shared[0, :, 2 * len(self.weights.deter_bias) :]

    def __call__(self, carry: C, action: Float[Tensor, "batch action"]) -> S:
        """The prior state after `action`."""
        deter, stoch = carry.parts()
        new = torch.empty_like(deter)
        self.action.copy_(self.core.project_action(action))
        tape = self.step.tape._replace(deter_in=deter, stoch_in=stoch, deter=new)
        old_blocks, new_blocks = (by_block(x, self.core.blocks) for x in (deter, new))
        step = self.step._replace(tape=tape, deter_in_blocks=old_blocks, deter_blocks=new_blocks)
        advance(step, self.weights, self.core.norms[0].eps)  # type: ignore[arg-type]
        return self.prior(new)
