"""A run's agent on new episodes, and one page about it."""

import time
from pathlib import Path
from typing import Any

import torch

from worldblocks.diagnose.finding import Section
from worldblocks.diagnose.inputs import look
from worldblocks.diagnose.page.document import write_page
from worldblocks.diagnose.rollouts import LENGTH
from worldblocks.diagnose.sections import (
    calibration,
    gradients,
    history,
    kl,
    latent,
    policy,
    prediction,
)
from worldblocks.evaluate import AgentPolicy, collect
from worldblocks.replay import Batch
from worldblocks.run.folder import read_config
from worldblocks.run.sinks import read_jsonl

ENVIRONMENTS = 4
FEWEST = ENVIRONMENTS * (LENGTH + 1)
UNSEEN = 1_000_000  # added to the run's seed: episodes it was not trained on


def diagnose(
    run: Path,
    recipe: Any,
    agent: Any,
    cfg: Any,
    *,
    steps: int,
    seed: int | None = None,
    output: Path | None = None,
) -> tuple[list[Section], Path]:
    """Let the agent of a run play held-out episodes, and write the page about it.

    Args:
        run: the run folder, for what has been logged.
        recipe: the module that made it.
        agent, cfg: as `recipe.load(run)` gives them.
        steps: rows played, of all environments together.
        seed: of the episodes; that of the run plus a million if None.
        output: the page; `diagnosis.html` in the run folder if None.

    Raises:
        ValueError: too few steps to see anything.
        Stopped: the environments failed too often.
    """
    if steps < FEWEST:
        raise ValueError(f"a diagnosis takes at least {FEWEST} steps, got {steps}")
    seed = int(cfg.seed) + UNSEEN if seed is None else seed
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        envs = recipe.environments(cfg, ENVIRONMENTS, seed)
        policy = AgentPolicy(recipe.act, agent, ENVIRONMENTS)
        batch = collect(policy, envs, steps // ENVIRONMENTS)
    sections = examine(recipe, agent, cfg, batch, run=run, seed=seed)
    known = facts(run, agent, batch, seed, time.monotonic() - began)
    path = output or run / "diagnosis.html"
    return sections, write_page(path, run.resolve().name, known, sections)


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
                kl.section(seen),
                latent.section(seen),
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


def facts(run: Path, agent: Any, batch: Batch, seed: int, seconds: float) -> dict[str, str]:
    """What stands at the head of the page."""
    config = read_config(run)
    task = next((str(config[k]) for k in ("game", "task", "env") if config.get(k)), "")
    metrics = read_jsonl(run / "metrics.jsonl")
    last = metrics[-1] if metrics else {}
    weights = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    whole = scores(batch)
    mean = f", mean score {sum(whole) / len(whole):.4g}" if whole else ""
    found = {
        "recipe": str(config.get("recipe", "")),
        "task": task,
        "trained": f"{last['step']:,} steps" if last else "not logged",
        "updates": f"{last['updates']:,.0f}" if "updates" in last else "",
        "parameters": f"{weights / 1e6:.3g}M",
        "looked at": f"{batch.reward.numel():,} rows of {len(batch.reward)} environments",
        "episodes finished there": f"{len(whole)}{mean}",
        "seed": f"{seed:,}",
        "took": f"{seconds:.0f} s",
        "on": time.strftime("%Y-%m-%d %H:%M"),
    }
    return {name: word for name, word in found.items() if word}


def scores(batch: Batch) -> list[float]:
    """Sums of rewards of the episodes that end within the rows."""
    found = []
    for reward, last in zip(batch.reward.tolist(), batch.is_last.tolist(), strict=True):
        total = 0.0
        for gain, over in zip(reward, last, strict=True):
            total += gain
            if over:
                found.append(total)
                total = 0.0
    return found
