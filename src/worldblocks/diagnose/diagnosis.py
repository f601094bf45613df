"""Diagnose an agent: play held-out episodes, examine them, write a page."""

import inspect
import time
from pathlib import Path
from typing import Any

import torch

from worldblocks.diagnose.finding import Section
from worldblocks.diagnose.inputs import prepare
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
from worldblocks.run.config import read_config
from worldblocks.run.folder import check_writable
from worldblocks.run.log.sinks import read_jsonl

ENVIRONMENTS = 4
FEWEST = ENVIRONMENTS * (LENGTH + 1)
"""Number of rows that a diagnosis needs at least: a window in each environment."""
NEEDED = ("encoder", "rssm", "decoder", "reward", "cont", "actor", "value", "return_scale")
UNSEEN = 1_000_000  # added to the run's seed, for episodes that were not trained on


def diagnose(
    run: Path,
    recipe: Any,
    agent: Any,
    cfg: Any,
    *,
    steps: int,
    seed: int | None = None,
    output: Path | None = None,
    task: str = "",
) -> tuple[list[Section], Path]:
    """Play held-out episodes with the agent of a run, and write a page about it.

    Args:
        run: the run folder, for its logs.
        recipe: the recipe module of the run.
        agent, cfg: as returned by `recipe.load(run)`.
        steps: number of rows to play, over all environments.
        seed: seed of the episodes; the run's seed plus a million if None.
        output: path of the page; `diagnosis.html` in the run folder if None, or
            `diagnosis-<task>.html`.
        task: the task of the agent if the run has several, for `recipe.environments`.

    Raises:
        ValueError: `steps` is too small, or the agent or its losses are not those of one world
            model with one policy.
        PermissionError: the page cannot be written.
        Stopped: the environments failed too often.
    """
    if steps < FEWEST:
        raise ValueError(f"a diagnosis takes at least {FEWEST} steps, got {steps}")
    _check(recipe, agent)
    path = output or run / (f"diagnosis-{task}.html" if task else "diagnosis.html")
    check_writable(path.parent, "--output, the page, in another folder")
    seed = int(cfg.seed) + UNSEEN if seed is None else seed
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        envs = recipe.environments(cfg, ENVIRONMENTS, seed, *([task] if task else []))
        policy = AgentPolicy(recipe.act, agent, ENVIRONMENTS)
        batch = collect(policy, envs, steps // ENVIRONMENTS)
    sections = examine(recipe, agent, cfg, batch, run=run, seed=seed, task=task)
    known = facts(run, agent, batch, seed, time.monotonic() - began)
    known |= {"task": task} if task else {}
    return sections, write_page(path, run.resolve().name, known, sections)


def _check(recipe: Any, agent: Any) -> None:
    """Raise, before anything is played, unless every section can examine the agent."""
    if absent := [name for name in NEEDED if not hasattr(agent, name)]:
        raise ValueError(
            f"a diagnosis is of a world model with one policy, and the agent of "
            f"{recipe.__name__} has no {', '.join(absent)}; the agent of one task has, as in the "
            f"DreamerV3 and multi-task recipes"
        )
    for name, arguments in (
        ("world_model_loss", ("agent", "batch", "cfg")),
        ("actor_critic_loss", ("agent", "post", "batch", "cfg")),
    ):
        signature = inspect.signature(getattr(recipe, name))
        try:
            signature.bind(*arguments)
        except TypeError:
            raise ValueError(
                f"a diagnosis calls {name}({', '.join(arguments)}), and {recipe.__name__} has "
                f"{name}{signature}; the DreamerV3 and multi-task recipes have these arguments"
            ) from None


def examine(
    recipe: Any,
    agent: Any,
    cfg: Any,
    batch: Batch,
    *,
    run: Path | None = None,
    seed: int = 0,
    task: str = "",
) -> list[Section]:
    """All sections of the page about an agent.

    Parameters, gradients, buffers such as the return scale, the training mode and the random state
    are left unchanged.

    Args:
        recipe: a module with `world_model_loss(agent, batch, cfg) -> (post, losses, metrics)` and
            `actor_critic_loss(agent, post, batch, cfg) -> (losses, metrics)`.
        agent: has `encoder, rssm, decoder, reward, cont, actor, value, return_scale`.
        cfg: the run's configuration; `gamma, lam, horizon, entropy, length, batch` are read.
        batch: held-out rows `env time ...`, as returned by `wb.evaluate.collect`.
        run: the run folder, for the training curves.
        seed: seed of the sampling.
        task: the agent's task, for its training curves, if the run has several.
    """
    training = agent.training
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            inputs = prepare(recipe, agent.eval(), cfg, batch)
            return [
                prediction.section(inputs),
                kl.section(inputs),
                latent.section(inputs),
                calibration.reward_section(inputs),
                calibration.value_section(inputs),
                calibration.continue_section(inputs),
                policy.scale_section(inputs),
                policy.entropy_section(inputs),
                gradients.section(inputs),
                history.section(inputs, run, task),
            ]
        finally:
            agent.train(training)


def facts(run: Path, agent: Any, batch: Batch, seed: int, seconds: float) -> dict[str, str]:
    """The facts at the top of the page."""
    config = read_config(run)
    task = next((str(config[k]) for k in ("game", "task", "env") if config.get(k)), "")
    metrics = read_jsonl(run / "metrics.jsonl")
    last = metrics[-1] if metrics else {}
    weights = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    finished = scores(batch)
    mean = f", mean score {sum(finished) / len(finished):.4g}" if finished else ""
    found = {
        "recipe": str(config.get("recipe", "")),
        "task": task,
        "trained": f"{last['step']:,} steps" if last else "not logged",
        "updates": f"{last['updates']:,.0f}" if "updates" in last else "",
        "parameters": f"{weights / 1e6:.3g}M",
        "held-out rows": f"{batch.reward.numel():,} of {len(batch.reward)} environments",
        "finished episodes": f"{len(finished)}{mean}",
        "seed": f"{seed:,}",
        "took": f"{seconds:.0f} s",
        "on": time.strftime("%Y-%m-%d %H:%M"),
    }
    return {name: text for name, text in found.items() if text}


def scores(batch: Batch) -> list[float]:
    """Reward sums of the episodes that end within the rows."""
    found = []
    for rewards, lasts in zip(batch.reward.tolist(), batch.is_last.tolist(), strict=True):
        total = 0.0
        for reward, last in zip(rewards, lasts, strict=True):
            total += reward
            if last:
                found.append(total)
                total = 0.0
    return found
