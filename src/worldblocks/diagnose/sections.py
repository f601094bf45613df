"""Everything that is looked at, in the order of the page."""

from pathlib import Path
from typing import Any

import torch

from worldblocks.diagnose import (
    calibration,
    gradients,
    history,
    latent,
    policy,
    prediction,
)
from worldblocks.diagnose.finding import Section
from worldblocks.diagnose.look import look
from worldblocks.replay import Batch


def examine(
    recipe: Any, agent: Any, cfg: Any, batch: Batch, *, run: Path | None = None, seed: int = 0
) -> list[Section]:
    """All sections of the page about an agent; looking changes nothing.

    Parameters, gradients, buffers such as the return scale, training mode and random numbers are
    afterwards what they were.

    Args:
        recipe: a module with `world_model_loss(agent, batch, cfg) -> (post, losses, metrics)` and
            `actor_critic_loss(agent, post, batch, cfg) -> (losses, metrics)`.
        agent: its agent: `encoder, rssm, decoder, reward, cont, actor, value, return_scale`.
        cfg: its configuration, of which `gamma, lam, horizon, entropy, length, batch` are read.
        batch: held-out rows `env time ...`, as `play` gives them.
        run: the run's folder, for the curves.
        seed: of what is sampled while looking.
    """
    training = agent.training
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            seen = look(recipe, agent.eval(), cfg, batch)
            return [
                prediction.section(seen),
                latent.kl_section(seen),
                latent.use_section(seen),
                calibration.reward_section(seen),
                calibration.value_section(seen),
                calibration.continue_section(seen),
                policy.scale_section(seen),
                policy.entropy_section(seen),
                gradients.section(seen),
                history.section(seen, run),
            ]
        finally:
            agent.train(training)
