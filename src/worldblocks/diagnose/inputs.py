"""What every section reads: an agent, the episodes it played, what it says of them."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.held_out import cut, posterior, shuffled, windows
from worldblocks.diagnose.rollouts import (
    LENGTH,
    SAMPLES,
    decoded,
    imagined,
    open_loop,
    truths,
)
from worldblocks.replay import Batch
from worldblocks.rssm import AnyState

MOST = 48  # windows of the open-loop section: each is decoded many times


class Predicted(NamedTuple):
    """Windows of observations and what is predicted for them, by observation key."""

    truth: dict[str, Tensor]
    right: dict[str, Tensor]  # open loop, with the actions that were taken
    wrong: dict[str, Tensor]  # with shuffled actions
    seen: dict[str, Tensor]  # decoded from states that saw each row
    reward: Float[Tensor, "window time"]  # open loop, with the actions that were taken


class Look(NamedTuple):
    """An agent on held-out episodes.

    Attributes:
        recipe: the module with the agent's losses.
        agent: in evaluation mode.
        cfg: the run's configuration.
        batch: the rows played, `env time ...`.
        post: the posterior states of these rows.
        cuts: windows for open-loop prediction; None where no row leads to a whole one.
        predicted: what is predicted for these windows; None likewise.
        short: windows of the length that is trained on; None where there are too few rows.
    """

    recipe: Any
    agent: Any
    cfg: Any
    batch: Batch
    post: AnyState
    cuts: Batch | None
    predicted: Predicted | None
    short: Batch | None

    @property
    def feature(self) -> Float[Tensor, "env time feature"]:
        """What the heads read."""
        return self.post.feature()


@torch.no_grad()
def look(recipe: Any, agent: Any, cfg: Any, batch: Batch) -> Look:
    """Observe the rows that an agent played, and imagine windows of them."""
    batch = batch.to(agent.rssm.initial(1).deter.device)
    post, rows = posterior(agent, batch), batch.reward.shape[1]
    cuts = short = None
    if rows > LENGTH:
        cuts = windows(batch, post, LENGTH).map(lambda x: x[:MOST])
        cuts = cuts if len(cuts.reward) else None
    if rows > 2:
        pieces = cut(batch, post, min(cfg.length, rows - 1))
        # Spread over the episodes, so that the batch is not one environment's beginning.
        count = len(pieces.reward)
        chosen = torch.linspace(0, count - 1, min(cfg.batch, count), device=batch.reward.device)
        short = pieces.map(lambda x: x[chosen.long().to(x.device)])
    predicted = None if cuts is None else predict(agent, cuts)
    return Look(recipe, agent, cfg, batch, post, cuts, predicted, short)


def predict(agent: Any, cuts: Batch) -> Predicted:
    """The mean of `SAMPLES` imagined futures of each window, and what to compare it with."""
    right: dict[str, Tensor] = {}
    reward = torch.zeros_like(cuts.reward)
    for _ in range(SAMPLES):
        states = open_loop(agent, cuts)
        reward += agent.reward(states.feature()).mean / SAMPLES
        means = decoded(agent, states)
        right = {key: right.get(key, 0) + mean / SAMPLES for key, mean in means.items()}
    wrong = imagined(agent, cuts, shuffled(cuts.prev_action), SAMPLES)
    embed = agent.encoder(cuts.obs)
    post = agent.rssm.observe(cuts.carry, embed, cuts.prev_action, cuts.is_first)
    return Predicted(truths(agent, cuts), right, wrong, decoded(agent, post), reward)
