"""Play a trained agent: mean score with its interval, and a video.

    python recipes/evaluate.py RUN [--episodes 100] [--mode] [--json]

Actions are sampled, as in the published scores; `--mode` takes the policy's likeliest instead. The
recipe that made the run is the file of that name beside this one; the run folder holds no code.
"""

import importlib
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

import worldblocks as wb


@dataclass(frozen=True, kw_only=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # a run folder
    episodes: int = 100
    mode: bool = False  # the policy's likeliest action instead of a sample
    envs: int = 8  # played side by side
    seed: int = 1_000_000  # of the episodes; far from those of training
    device: str = "auto"
    json: bool = False  # the last line is {"mean": …, "std": …, "episodes": …}
    video: int = 900  # frames of the first environment to keep; 0: no video


def play(recipe, agent, envs, episodes: int, mode: bool, video: int):
    """Scores of the first `episodes` episodes of each environment's share, and frames to look at.

    Every environment plays the same number of episodes, decided beforehand: counting whichever
    episodes end first would favour short ones.
    """
    quota = [len(range(env, episodes, len(envs))) for env in range(len(envs))]
    scores: list[list[float]] = [[] for _ in quota]
    rows, carry, frames = envs.reset(), agent.initial(len(envs)), []
    with wb.run.Interrupt() as interrupt, wb.run.Progress(episodes, unit="episodes") as progress:
        while any(len(own) < due for own, due in zip(scores, quota, strict=True)):
            if interrupt.requested:
                break
            if len(frames) < video and not scores[0]:
                frames.append(torch.cat([rows.obs[key][0] for key in agent.encoder.image_keys], -1))
            action, carry = recipe.act(agent, rows.obs, carry, rows.is_first, mode)
            rows = envs.step(action)
            for env, score, _ in envs.finished:
                if len(scores[env]) < quota[env]:
                    scores[env].append(score)
            progress.update(sum(map(len, scores)))
    return [score for own in scores for score in own], frames


def main(cfg: Config) -> None:
    name = wb.run.read_config(cfg.run).get("recipe", "")
    if not (Path(__file__).parent / f"{name}.py").exists():
        raise SystemExit(
            f"{cfg.run} was made by the recipe {name!r}, which is not beside this file"
        )
    recipe = importlib.import_module(name)
    agent, saved = recipe.load(cfg.run, cfg.device)
    torch.manual_seed(cfg.seed)
    envs = recipe.environments(saved, min(cfg.envs, cfg.episodes), cfg.seed)
    scores, frames = play(recipe, agent, envs, cfg.episodes, cfg.mode, cfg.video)
    if frames:
        wb.run.write_gif(cfg.run / "evaluation.gif", torch.stack(frames), fps=15)
        print(f"video {cfg.run / 'evaluation.gif'}")
    if not scores:
        raise SystemExit("no episode was finished")
    result = summary(scores)
    how = "the policy's mode" if cfg.mode else "sampled actions"
    print(
        f"{saved.game}: mean {result['mean']:.2f} over {len(scores)} episodes of {how}, "
        f"95% interval {result['low']:.2f} to {result['high']:.2f}, std {result['std']:.2f}"
    )
    if cfg.json:
        print(json.dumps(result))


def summary(scores: list[float]) -> dict[str, float]:
    """Mean, sample deviation, and the interval mean ± 1.96 std / sqrt(n)."""
    mean = statistics.fmean(scores)
    std = statistics.stdev(scores) if len(scores) > 1 else 0.0
    half = 1.96 * std / math.sqrt(len(scores))
    return {
        "mean": mean,
        "std": std,
        "episodes": len(scores),
        "low": mean - half,
        "high": mean + half,
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
