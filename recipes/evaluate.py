"""Play a trained agent: mean score with its interval, and a video if the agent sees images.

    python recipes/evaluate.py RUN [--episodes 100] [--mode] [--json] [--task TASK]

Actions are sampled, as for published scores; `--mode` plays the policy's mode and then the same
episodes with sampled actions. The recipe is the file beside this one that the run names, or
`--recipe`; the run folder holds no code.

Extras: run.
"""

import inspect
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch

import worldblocks as wb
from worldblocks.run import NonNegative, Positive, Seed

tyro = wb.run.command_line(__file__)

NEEDED = ("load", "environments", "act")


@dataclass(frozen=True, kw_only=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # a run folder
    recipe: Path | None = None  # recipe file; default: the one that the run names
    task: str = ""  # of a multi-task run; default: its first
    episodes: Positive[int] = 100
    longest: Positive[int] = wb.evaluate.LONGEST  # actions in an episode before it is given up
    mode: bool = False  # play the policy's mode, then the same episodes with samples
    envs: Positive[int] = 8  # played in parallel
    seed: Seed = 1_000_000  # of the episodes; far from those in training
    device: str = "auto"
    json: bool = False  # print as the last line {"mean": …, "std": …, "episodes": …}
    video: NonNegative[int] = 900  # maximum frames, of the first environment; 0: no video

    def __post_init__(self):
        wb.run.check_options(self)


def judge(cfg: Config, recipe, agent, saved, mode: bool):
    """Play, print a line, write the video; returns the figures of the finished episodes."""
    torch.manual_seed(cfg.seed)
    task = [cfg.task] if cfg.task else []
    envs = recipe.environments(saved, min(cfg.envs, cfg.episodes), cfg.seed, *task)
    policy = wb.evaluate.AgentPolicy(recipe.act, agent, len(envs), mode)
    keys = agent.encoder.picture_keys if hasattr(agent, "encoder") and mode == cfg.mode else ()
    frames, stopped = [], ""
    with (
        wb.run.Interrupt() as interrupt,
        wb.run.Progress(cfg.episodes, unit="episodes") as progress,
    ):

        def watch(rows, scores):
            if keys and len(frames) < cfg.video and not scores[0]:
                seen = [wb.run.picture(envs.observation[key], rows.obs[key][0]) for key in keys]
                frames.append(wb.run.side_by_side(seen))
            progress.update(sum(map(len, scores)))
            return interrupt.requested

        try:
            scores = wb.evaluate.play(policy, envs, cfg.episodes, watch=watch, longest=cfg.longest)
        except wb.evaluate.Stopped as error:
            scores, stopped = error.scores, str(error)
    if frames:
        try:
            print(f"video {wb.run.write_gif(cfg.run / 'evaluation.gif', torch.stack(frames), 15)}")
        except OSError as error:  # a full or read-only disk must not cost the scores
            print(f"no video: {error}")
    if not scores:
        raise RuntimeError(stopped or "no episode was finished")
    if stopped:
        print(stopped)
    result = wb.evaluate.summary(scores)
    how = "the policy's mode" if mode else "sampled actions"
    spread = ""
    if len(scores) > 1:
        spread = ", 95% interval {low:.2f} to {high:.2f}, std {std:.2f}".format(**result)
    print(f"{cfg.run}: mean {result['mean']:.2f} over {len(scores)} episodes of {how}{spread}")
    return result


def main(cfg: Config) -> int:
    """Returns 0, or 1 if not all episodes were played."""
    recipe = wb.run.recipe_of(cfg.run, cfg.recipe, tool=__file__, needed=NEEDED)
    several = "task" in inspect.signature(recipe.load).parameters
    task = wb.tasks.chosen_task(cfg.run, cfg.task, several)
    cfg = replace(cfg, task=task)
    agent, saved = recipe.load(cfg.run, cfg.device, *([task] if task else []))
    result = judge(cfg, recipe, agent, saved, cfg.mode)
    played = [result["episodes"]]
    if cfg.mode and played == [cfg.episodes]:  # else it was interrupted
        result["sampled"] = judge(cfg, recipe, agent, saved, mode=False)
        played.append(result["sampled"]["episodes"])
    result["parameters"] = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    if cfg.json:
        print(json.dumps(result))
    return int(min(played) < cfg.episodes)


if __name__ == "__main__":
    sys.exit(wb.run.launch_tool(main, Config, __doc__))
