"""A run's agent on new episodes, and one page about it."""

import time
from pathlib import Path
from typing import Any

import torch

from worldblocks.diagnose.ahead import LENGTH
from worldblocks.diagnose.finding import Section
from worldblocks.diagnose.page import write_page
from worldblocks.diagnose.sections import examine
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
