"""The inputs of every section: an agent, the held-out rows it played, and its predictions."""

from contextlib import suppress
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.diagnose.held_out import TooShort, cut, posterior, shuffle, windows
from worldblocks.diagnose.rollouts import LENGTH, SAMPLES, decoded, imagined, open_loop, truths
from worldblocks.replay import Batch
from worldblocks.rssm import AnyState

MOST = 48  # windows of the open-loop section: each is decoded many times


class Predictions(NamedTuple):
    """Observations of some windows by key, and predictions of them."""

    truth: dict[str, Tensor]
    imagined: dict[str, Tensor]  # open loop, with the true actions
    shuffled: dict[str, Tensor]  # open loop, with shuffled actions
    reconstructed: dict[str, Tensor]  # decoded from posterior states
    reward: Float[Tensor, "window time"]  # open loop, with the true actions


class Inputs(NamedTuple):
    """An agent on held-out episodes.

    Attributes:
        recipe: the module with the agent's losses.
        agent: in evaluation mode.
        cfg: the run's configuration.
        batch: the rows played, `env time ...`.
        post: the posterior states of these rows.
        windows: windows for open-loop prediction; None if no window fits into an episode.
        predictions: predictions for these windows, or None.
        training: windows of the training length; None if there are too few rows.
    """

    recipe: Any
    agent: Any
    cfg: Any
    batch: Batch
    post: AnyState
    windows: Batch | None
    predictions: Predictions | None
    training: Batch | None

    @property
    def feature(self) -> Float[Tensor, "env time feature"]:
        """The input of the heads."""
        return self.post.feature()


@torch.no_grad()
def prepare(recipe: Any, agent: Any, cfg: Any, batch: Batch) -> Inputs:
    """Observe the rows that an agent played, cut them into windows and imagine these."""
    batch = batch.to(next(agent.rssm.parameters()).device)
    post, rows = posterior(agent, batch), batch.reward.shape[1]
    cuts = training = None
    if rows > LENGTH:
        with suppress(TooShort):
            cuts = windows(batch, post, LENGTH).map(lambda x: x[:MOST])
    if rows > 2:
        pieces = cut(batch, post, min(cfg.length, rows - 1))
        # Spread over all environments, not the first windows of one.
        count = len(pieces.reward)
        chosen = torch.linspace(0, count - 1, min(cfg.batch, count), device=batch.reward.device)
        training = pieces.map(lambda x: x[chosen.long().to(x.device)])
    predictions = None if cuts is None else predict(agent, cuts)
    return Inputs(recipe, agent, cfg, batch, post, cuts, predictions, training)


def predict(agent: Any, cuts: Batch) -> Predictions:
    """Predict each window: open loop (the mean of `SAMPLES` futures) and by reconstruction."""
    means: dict[str, Tensor] = {}
    reward = torch.zeros_like(cuts.reward)
    for _ in range(SAMPLES):
        states = open_loop(agent, cuts)
        reward += agent.reward(states.feature()).mean / SAMPLES
        parts = decoded(agent, states)
        means = {key: means.get(key, 0) + mean / SAMPLES for key, mean in parts.items()}
    shuffled = imagined(agent, cuts, shuffle(cuts.prev_action), SAMPLES)
    embed = agent.encoder(cuts.obs)
    post = agent.rssm.observe(cuts.carry, embed, cuts.prev_action, cuts.is_first)
    return Predictions(truths(agent, cuts), means, shuffled, decoded(agent, post), reward)
