"""Adapt the world model of a multi-task run to a new task: return against real steps.

    python recipes/adapt.py RUN --task walker_run                     fine-tune everything
    python recipes/adapt.py RUN --task walker_run --freeze            keep the world model fixed
    python recipes/adapt.py RUN --task walker_run --world fresh       baseline: from scratch
    python recipes/adapt.py RUN --task walker_run --world shuffled    baseline: shuffled dynamics
    python recipes/adapt.py RUN --task walker_run --head walker_walk  start from a copy of a head

RUN is a folder of `multitask_dmc.py` or `multitask_atari.py`. Its world model takes the new task's
observations and actions; tensors whose shapes differ, as for another body, start anew. Real steps
are environment steps: actions times the action repeat. If the task's reward is a known function of
features and RUN, of the same body, still has its replay, training begins on that replay with
relabelled rewards; the return after 0 steps shows the result. A fresh world model skips this.

Extras: run.
"""

import dataclasses
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

import worldblocks as wb
from worldblocks.run import NonNegative, Positive, Seed

tyro = wb.run.command_line(__file__)

NEEDED = ("task_suite", "build", "update", "act")


@dataclass(frozen=True, kw_only=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # folder of a multi-task run
    task: str  # the new task
    recipe: Path | None = None  # recipe file; default: the one that RUN names
    logdir: str = ""  # result folder; default RUN/adapt-<task>-<world>-<seed>, counted up
    seed: Seed = 0
    freeze: bool = False  # keep the world model fixed instead of training it too
    world: Literal["kept", "fresh", "shuffled"] = "kept"  # of RUN, new, or shuffled
    head: str = ""  # task of RUN whose head is copied; default: a new head
    marks: tuple[NonNegative[int], ...] = (0, 1000, 5000, 20_000)  # real steps at which to evaluate
    before: NonNegative[int] = 1000  # updates on the replay of RUN before the first real step
    train_ratio: NonNegative[float] = 0.0  # rows trained on per action; default: that of RUN
    episodes: Positive[int] = 20  # per evaluation
    device: str = "auto"

    def __post_init__(self):
        wb.run.check_options(self)
        if not self.marks or list(self.marks) != sorted(set(self.marks)):
            raise ValueError(f"--marks takes one or more ascending steps, got {self.marks}")
        if self.freeze and self.world == "fresh":
            raise ValueError("a fresh world cannot be frozen; use --world kept or drop --freeze")


def take(agent, tensors: dict[str, Any]) -> int:
    """Copy the tensors that fit by name and shape, except heads; returns how many."""
    own = {name: x for name, x in agent.state_dict().items() if not name.startswith("heads.")}
    fit = {k: x for k, x in tensors.items() if k in own and own[k].shape == x.shape}
    agent.load_state_dict(fit, strict=False)
    return len(fit)


@torch.no_grad()
def shuffle(agent):
    """Permute the entries of each dynamics tensor: destroys what it learned, keeps its scale."""
    for parameter in agent.rssm.parameters():
        mixed = parameter.flatten()[torch.randperm(parameter.numel()).to(parameter.device)]
        parameter.copy_(mixed.view_as(parameter))


def prepare(cfg: Config, recipe: Any, saved: Any):
    """The new task's agent on the world model asked for, its optimiser and its task suite."""
    suite = recipe.task_suite(dataclasses.replace(saved, tasks=(cfg.task,)))
    agent, _ = recipe.build(saved, suite)
    weights = wb.run.Checkpoint(cfg.run).weights("agent")
    fit = take(agent, weights) if cfg.world != "fresh" else 0
    print(f"copied {fit} of the {len(weights)} tensors of {cfg.run} for {cfg.task}", flush=True)
    if cfg.world == "shuffled":
        shuffle(agent)
    agent.heads.add(cfg.task, agent.head(cfg.task))
    if cfg.head:
        begin = f"heads.parts.{cfg.head}."
        own = {k.removeprefix(begin): x for k, x in weights.items() if k.startswith(begin)}
        wb.run.load_module_state(agent.heads[cfg.task], own)
    trained = agent.heads[cfg.task].parameters() if cfg.freeze else agent.parameters()
    optimizer = wb.optim.dreamer_optimizer(trained, lr=saved.lr, agc=saved.agc, warmup=saved.warmup)
    return agent, optimizer, suite


def replays(cfg: Config, recipe: Any, saved: Any, suite: Any):
    """RUN's replay, relabelled (None if missing or useless), an empty one, and RUN's tasks."""
    known = wb.tasks.control_reward(cfg.task) if getattr(saved, "relabel", False) else None
    make = functools.partial(
        wb.replay.MixtureReplay,
        relabel={cfg.task: known},
        capacity=saved.capacity,
        streams=saved.envs,
        length=saved.length,
    )
    old, new = None, make([cfg.task], seed=cfg.seed)
    _, tasks = wb.tasks.tasks_of(cfg.run, saved.tasks)
    past = cfg.world != "fresh" and (wb.run.Checkpoint(cfg.run).folder / "replay").exists()
    if known and past and fits(recipe.task_suite(dataclasses.replace(saved, tasks=tasks)), suite):
        # The rows are those of RUN's tasks; `update` takes the new task's rewards on them.
        old = make([*tasks, *[cfg.task] * (cfg.task not in tasks)], seed=cfg.seed)
        wb.run.Checkpoint(cfg.run).load_stores({"replay": old})
    return old, new, tasks


def fits(past: Any, suite: Any) -> bool:
    """Whether rows of one task suite fit another, as they do for the same body."""
    return (past.observation, past.width) == (suite.observation, suite.width)


def update(recipe: Any, agent, optimizer, saved, mixture, place: int):
    """One update on windows with the rewards of task `place`; writes no latents back."""
    carry = agent.rssm.unpack(mixture.batch.carry)
    batch = mixture.batch._replace(carry=carry, row=None)
    own = (mixture.task == place).long() - 1  # 0 where the new task played, else -1
    parts = {"reward": mixture.reward[place : place + 1], "known": mixture.known[place : place + 1]}
    mixture = mixture._replace(batch=batch, task=own, **parts)
    return recipe.update(agent, optimizer, mixture, saved)


def write(cfg: Config, folder: Path, world: str, evaluations: list[dict[str, Any]]):
    """Write the evaluations to `result.json`."""
    result = {"name": folder.name, "run": cfg.run.name, "task": cfg.task, "seed": cfg.seed}
    result |= {"world": world, "head": cfg.head, "steps": cfg.marks[-1]}
    text = json.dumps({**result, "evaluations": evaluations}, indent=2) + "\n"
    (folder / "result.json").write_text(text, encoding="utf-8")
    print(f"result in {folder / 'result.json'}")


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    recipe = wb.run.recipe_of(cfg.run, cfg.recipe, tool=__file__, needed=NEEDED)
    if wb.run.read_config(cfg.run).get("conditioned"):
        raise ValueError(
            f"the world model of {cfg.run} is conditioned on its tasks and has no place for "
            f"{cfg.task}; a run without --conditioned takes a new task"
        )
    saved = wb.run.load_config(cfg.run, recipe.Config, device=cfg.device)
    world = cfg.world + "-frozen" * cfg.freeze
    if cfg.head:
        wb.tasks.chosen_task(cfg.run, cfg.head, several=True, option="--head")
    folder = wb.run.result_folder(cfg.logdir, cfg.run / f"adapt-{cfg.task}-{world}-{cfg.seed}")
    agent, optimizer, suite = prepare(cfg, recipe, saved)
    old, new, tasks = replays(cfg, recipe, saved, suite)
    device = wb.run.device_of(agent)
    evaluations, sampler = [], wb.tasks.TaskSampler(seed=cfg.seed)

    def judge(step: int):
        envs = suite.envs(cfg.task, min(10, cfg.episodes), seed=cfg.seed + 1_000_000)
        policy = wb.evaluate.AgentPolicy(recipe.act, agent.eval().task(cfg.task), len(envs))
        with torch.random.fork_rng():
            scores = wb.evaluate.play(policy, envs, cfg.episodes)
        agent.train()
        mean = sum(scores) / len(scores)
        evaluations.append({"step": step, "mean": mean, "scores": scores})
        print(
            f"{cfg.task} after {step} real steps: {mean:.4g} of {len(scores)} episodes", flush=True
        )

    if old is not None:
        for _ in range(cfg.before):
            mixture = old.sample(sampler.counts(tasks, saved.batch)).to(device)
            update(recipe, agent, optimizer, saved, mixture, old.tasks.index(cfg.task))
    envs = suite.envs(cfg.task, saved.envs, seed=cfg.seed, workers=saved.workers)
    rows, acting, step = envs.reset(), agent.initial(saved.envs), 0
    train_ratio = wb.run.Ratio(
        (cfg.train_ratio or saved.train_ratio) / (saved.batch * saved.length)
    )
    repeat, marks = getattr(saved, "repeat", 1), list(cfg.marks)
    with wb.run.Progress(cfg.marks[-1], unit="real steps") as progress:
        while marks:
            if step * repeat >= marks[0]:
                judge(marks.pop(0))
                continue
            stored = rows._replace(prev_action=acting.prev_action)  # padded
            action, acting = recipe.act(agent.task(cfg.task), rows.obs, acting, rows.is_first)
            packed = agent.rssm.pack(acting.dynamics)
            new.add(cfg.task, **stored._asdict(), carry=packed)
            rows, step = envs.step(action), step + saved.envs
            if envs.stopped:
                envs.close()
                raise RuntimeError(envs.stopped)
            for _ in range(train_ratio(step) if new[cfg.task].holds(saved.length) else 0):
                mixture = new.sample({cfg.task: saved.batch}).to(device)
                post, _ = update(recipe, agent, optimizer, saved, mixture, 0)
                new.write_back(mixture, agent.rssm.pack(post.carry))
            progress.update(step * repeat)
    envs.close()
    write(cfg, folder, world, evaluations)
    return 0


if __name__ == "__main__":
    sys.exit(wb.run.launch_tool(main, Config, __doc__))
