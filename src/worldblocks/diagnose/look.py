"""What every section reads: an agent, the episodes it played, its states on them."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.held_out import cut, posterior, windows
from worldblocks.diagnose.open_loop import LENGTH
from worldblocks.replay import Batch
from worldblocks.rssm import State

MOST = 48  # windows of the open-loop section: each is decoded many times


class Look(NamedTuple):
    """An agent on held-out episodes.

    Attributes:
        recipe: the module with the agent's losses.
        agent: in evaluation mode.
        cfg: the run's configuration.
        batch: the rows played, `env time ...`.
        post: the posterior states of these rows.
        cuts: windows for open-loop prediction; None where no row leads to a whole one.
        short: windows of the length that is trained on; None where there are too few rows.
    """

    recipe: Any
    agent: Any
    cfg: Any
    batch: Batch
    post: State
    cuts: Batch | None
    short: Batch | None

    @property
    def feature(self) -> Float[Tensor, "env time feature"]:
        """What the heads read."""
        return self.post.feature()


@torch.no_grad()
def look(recipe: Any, agent: Any, cfg: Any, batch: Batch) -> Look:
    """Observe the rows that an agent played."""
    batch = batch.to(agent.rssm.initial(1).deter.device)
    post, rows = posterior(agent, batch), batch.reward.shape[1]
    cuts = short = None
    if rows > LENGTH:
        cuts = windows(batch, post, LENGTH).map(lambda x: x[:MOST])
        cuts = cuts if len(cuts.reward) else None
    if rows > 2:
        pieces = cut(batch, post, min(cfg.length, rows - 1))
        # Spread over the episodes, so that the batch is not one environment's beginning.
        chosen = torch.linspace(0, len(pieces.reward) - 1, min(cfg.batch, len(pieces.reward)))
        short = pieces.map(lambda x: x[chosen.long().to(x.device)])
    return Look(recipe, agent, cfg, batch, post, cuts, short)
