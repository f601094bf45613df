"""From a sentence to a policy in a trained world model, without new environment steps.

    python recipes/instruct.py RUN --instruction "take a stroll"
    python recipes/instruct.py RUN --sentences benchmarks/learning/sentences.toml

RUN is a folder of `multitask_dmc.py` that still has its replay, of a body with a menu (walker,
cartpole ...). A language model chooses a phrase of the menu, whose expression of features is the
reward. The world model stays fixed. First, a head that predicts the features and a reward head for
each phrase are fitted to the replay. Then an actor for each phrase, which starts as a copy of the
head of RUN whose rows the phrase rewards most, and a critic learn in imagination. The environment
is played only at the end, for evaluation.

Scores count the phrase that was meant. They are given for the policy of the chosen phrase, the
policy of the meant phrase (an oracle: its shortfall is due to the world model), the best head of
RUN and a random policy. Needs the models of `glam.py`, `--cache FOLDER --offline` or `--by oracle`.

Extras: llm, run.
"""

import json
import statistics
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import nn

import worldblocks as wb
from worldblocks.run import NonNegative, Positive, Seed, inside

tyro = wb.run.command_line(__file__)

NEEDED = ("task_suite", "build", "load", "act", "world_model_loss", "actor_critic_loss")


@dataclass(frozen=True, kw_only=True)
class Config:
    run: Annotated[Path, tyro.conf.Positional]  # folder of a multi-task run
    recipe: Path | None = None  # recipe file; default: the one that RUN names
    instruction: str = ""  # one sentence
    meant: str = ""  # the menu phrase it means, if known; default: the chosen one
    sentences: str = ""  # or a TOML file of [[sentence]] with `instruction` and `meant`
    logdir: str = ""  # result folder; default RUN/instruct-<by>-<seed>, counted up
    seed: Seed = 0
    by: Literal["llm", "embedding", "random", "oracle"] = "llm"  # how the phrase is chosen
    cache: str = ""  # folder of cached language-model replies; "": no cache
    offline: bool = False  # use the cache alone, load no model
    imagined: Literal["features", "head"] = "features"  # reward of imagined rows: the expression on
    # predicted features, or that of a reward head fitted to relabelled replay
    begin: Literal["nearest", "new"] = "nearest"  # actors start as the nearest head's, or new
    fit: Positive[int] = 1500  # updates of feature and reward heads, which come first
    updates: Positive[int] = 500  # updates of actors and critics
    settle: NonNegative[int] = 200  # the first of these, which train only the critics
    gamma: Annotated[float, inside(0, 1)] = 0.97  # in imagination; RUN's looks too far ahead
    episodes: Positive[int] = 20  # per policy
    random: Positive[int] = 100  # episodes of the random policy
    device: str = "auto"

    def __post_init__(self):
        wb.run.check_options(self)
        if bool(self.instruction.strip()) == bool(self.sentences):
            raise ValueError("give either a sentence (--instruction) or a file (--sentences)")
        if self.settle >= self.updates:
            raise ValueError(
                f"--settle takes fewer than the {self.updates} --updates, got {self.settle}"
            )


class Predicted(nn.Module):
    """In place of a reward head: evaluates the reward on predicted features."""

    def __init__(self, features: wb.heads.FeatureHead, reward: Any):
        super().__init__()
        self.reward = wb.language.SpecReward(features, reward)

    def forward(self, feature):
        return SimpleNamespace(mean=self.reward(feature))


class Discounted(nn.Module):
    """The continue head, which contains the run's discount, with another discount."""

    def __init__(self, cont: nn.Module, ratio: float):
        super().__init__()
        self.cont, self.ratio = cont, ratio

    def forward(self, feature):
        return SimpleNamespace(mean=self.ratio * self.cont(feature).mean)


def sentences(cfg: Config, menu: Any) -> list[dict[str, str]]:
    """Each sentence with the phrase chosen for it and the phrase that was meant."""
    if cfg.sentences:
        found = tomllib.loads(Path(cfg.sentences).read_text(encoding="utf-8")).get("sentence", [])
    else:
        found = [{"instruction": cfg.instruction, "meant": cfg.meant}]
    if not found or any({"instruction", "meant"} - one.keys() for one in found):
        raise ValueError(
            f"{cfg.sentences} has no [[sentence]], or one without `instruction` or `meant`; it "
            f"takes one or more with both"
        )
    by = wb.language.ranker(cfg.by, cache=cfg.cache, offline=cfg.offline, seed=cfg.seed)
    for one in found:
        asked = one["meant"] if cfg.by == "oracle" and one["meant"] else one["instruction"]
        able = [phrase for phrase in menu.phrases if phrase not in menu.helpers]
        ranking = by.rank(asked, able)
        one |= {"chosen": ranking.items[0], "meant": one["meant"] or ranking.items[0]}
        print(f"{one['instruction']!r}: {', '.join(ranking.items[:3])}", flush=True)
    return found


def looked_at(replay: wb.replay.MixtureReplay, ranges: Any, rewards: Any):
    """Feature ranges in the replay, and the task nearest to each phrase."""
    counts = wb.tasks.TaskSampler(seed=0).counts(replay.tasks, 512)
    mixture, found = replay.sample(counts), {}
    for name, (low, high, bit) in ranges.items():
        mean, std = mixture.feature[name].float().mean(), mixture.feature[name].float().std()
        usual = (float(mean - std), float(mean + std))  # the menu's covers all a body can do
        found[name] = (low, high, bit) if bit or not std > 0 else (*usual, bit)
    nearest = {}
    for phrase, reward in rewards.items():
        feature = {name: mixture.feature[name] for name in reward.names}
        given = wb.replay.relabel(feature, mixture.batch.is_first, reward.relabel).reward.mean(1)
        by = [float(given[mixture.task == place].mean()) for place in range(len(replay.tasks))]
        nearest[phrase] = replay.tasks[by.index(max(by))]
    return found, nearest


def prepare(cfg: Config, recipe: Any, saved: Any, ranges: Any, nearest: dict[str, str]):
    """The run's world model with new heads only, an optimiser for them, and the task suite."""
    one, _ = recipe.load(cfg.run, cfg.device)
    suite = recipe.task_suite(saved)
    agent, _ = recipe.build(saved, suite)
    world = {k: x for k, x in one.state_dict().items() if k in agent.state_dict()}
    wb.run.load_module_state(agent, world)
    suite.actions |= dict.fromkeys(nearest, suite.actions[suite.base_tasks[0]])
    for phrase, task in nearest.items():
        agent.heads.add(phrase, agent.head(phrase))
        if cfg.begin == "nearest":
            played = recipe.load(cfg.run, cfg.device, task)[0].actor
            agent.heads[phrase].actor.load_state_dict(played.state_dict())
    head = wb.heads.FeatureHead(agent.rssm.feature_dim, ranges, units=saved.units, layers=1)
    agent.features = head.to(wb.run.device_of(agent))
    new = [*agent.heads.parameters(), *agent.features.parameters()]
    trained = [parameter for parameter in new if parameter.requires_grad]
    optimizer = wb.optim.dreamer_optimizer(trained, lr=saved.lr, agc=saved.agc, warmup=saved.warmup)
    return agent, optimizer, suite


def stored(cfg: Config, saved: Any) -> wb.replay.MixtureReplay:
    """The replay of the run."""
    checkpoint = wb.run.Checkpoint(cfg.run)
    if not (checkpoint.folder / "replay").exists():
        raise FileNotFoundError(f"{cfg.run} has no replay left to learn from")
    replay = wb.replay.MixtureReplay(
        wb.tasks.tasks_of(cfg.run, saved.tasks)[1],
        capacity=saved.capacity,
        streams=saved.envs,
        length=saved.length,
    )
    checkpoint.load_stores({"replay": replay})
    return replay


def update(agent, optimizer, recipe, saved, mixture, rewards, cfg, step):
    """Train what is due at `step`, with the world model fixed; returns the losses."""
    carry = agent.rssm.unpack(mixture.batch.carry)
    batch = mixture.batch._replace(carry=carry, row=None)
    nobody = torch.zeros_like(mixture.task, dtype=torch.bool)  # no new policy played any row
    with torch.no_grad():
        post, _, _ = recipe.world_model_loss(agent, batch, saved)
    feature = {name: mixture.feature[name] for name in agent.features.ranges}
    losses = {"features": agent.features(post.feature()).nll(feature)}
    for name, reward in rewards.items():
        label = wb.replay.relabel(feature, batch.is_first, reward.relabel)
        own, one = batch._replace(reward=label.reward), agent.task(name)
        fitted = one.reward(post.feature()).nll(own.reward)
        losses[f"{name}/reward"] = wb.losses.on_rows(fitted, label.known)
        if step < cfg.fit:
            continue
        one.cont = Discounted(agent.cont, cfg.gamma / saved.gamma)
        if cfg.imagined == "features":
            one.reward = Predicted(agent.features, reward)
        more, _ = recipe.actor_critic_loss(one, post, own, saved, nobody)
        if step < cfg.fit + cfg.settle:
            del more["actor"]
        losses |= {f"{name}/{key}": loss for key, loss in more.items()}
    optimizer.zero_grad()
    torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
    optimizer.step()
    for name in agent.heads if step >= cfg.fit else ():
        agent.heads[name].slow_value.update(agent.heads[name].value)
    return {f"loss/{name}": loss.detach().mean() for name, loss in losses.items()}


@torch.no_grad()
def played(policy, envs, rewards) -> dict[str, list[float]]:
    """The scores of one episode per environment, by every phrase."""
    alive = torch.ones(len(envs), dtype=torch.bool)
    sums = {phrase: torch.zeros(len(envs)) for phrase in rewards}

    def watch(rows, _):
        nonlocal alive
        _, feature = wb.envs.split_features(rows.obs)
        for phrase, reward in rewards.items():
            paid = reward({name: feature[name] for name in reward.names})
            sums[phrase] += (alive & ~rows.is_first) * paid
        alive = alive & ~rows.is_last

    wb.evaluate.play(policy, envs, len(envs), watch=watch)
    return {phrase: each.tolist() for phrase, each in sums.items()}


def judge(cfg: Config, recipe: Any, saved: Any, agent, suite, rewards) -> dict[str, Any]:
    """Scores by policy: the head of each phrase, the heads of the run, and a random policy."""
    task, far = suite.base_tasks[0], cfg.seed + 1_000_000
    envs = suite.envs(task, cfg.random, seed=far)
    scores = {"random": played(wb.evaluate.random_policy(envs, cfg.seed), envs, rewards)}
    heads = {phrase: agent.eval().task(phrase) for phrase in rewards}
    for name in wb.tasks.tasks_of(cfg.run, saved.tasks)[1]:
        heads[f"head of {name}"] = recipe.load(cfg.run, cfg.device, name)[0]
    for name, one in heads.items():
        policy = wb.evaluate.AgentPolicy(recipe.act, one, cfg.episodes)
        scores[name] = played(policy, suite.envs(task, cfg.episodes, seed=far), rewards)
    return scores


def table(found: list[dict[str, str]], scores: dict[str, Any]) -> tuple[list[dict], str]:
    """A row for each sentence, and the same as text."""
    rows, old = [], [name for name in scores if name.startswith("head of ")]
    for one in found:
        mean = {name: statistics.fmean(by[one["meant"]]) for name, by in scores.items()}
        bar = float(np.percentile(scores["random"][one["meant"]], 95))
        best = max(old, key=lambda name: mean[name])
        got = {"policy": mean[one["chosen"]], "oracle": mean[one["meant"]], "random_95": bar}
        got |= {"best_head": best, "best_head_score": mean[best], "ok": got["policy"] > bar}
        rows.append({**one, **got})
    lines = [
        f"{'PASS' if row['ok'] else 'FAIL'}  {row['instruction']!r} as {row['chosen']!r}: "
        f"{row['policy']:.4g}, random 95th percentile {row['random_95']:.4g}; oracle "
        f"{row['oracle']:.4g}, {row['best_head']} {row['best_head_score']:.4g}"
        for row in rows
    ]
    return rows, "\n".join([*lines, f"{sum(row['ok'] for row in rows)} of {len(rows)} sentences"])


def main(cfg: Config) -> int:
    torch.manual_seed(cfg.seed)
    known = wb.run.read_config(cfg.run)
    body = known.get("tasks", [""])[0].split("_")[0]
    if body not in wb.envs.BODIES:
        raise ValueError(
            f"{cfg.run} was made by the recipe {known.get('recipe')!r} with the body {body!r}; a "
            f"sentence needs a multi-task run with one of {', '.join(wb.envs.BODIES)}"
        )
    if known["conditioned"] or not known["relabel"]:
        raise ValueError(
            f"{cfg.run} is conditioned={known['conditioned']}, relabel={known['relabel']}; a "
            f"sentence needs a world model that never sees the task, and features in replay"
        )
    recipe = wb.run.recipe_of(cfg.run, cfg.recipe, tool=__file__, needed=NEEDED)
    saved = wb.run.load_config(cfg.run, recipe.Config, device=cfg.device)
    folder = wb.run.result_folder(cfg.logdir, cfg.run / f"instruct-{cfg.by}-{cfg.seed}")
    menu = wb.language.body_menu(body)
    found = sentences(cfg, menu)
    phrases = list(dict.fromkeys(one[key] for one in found for key in ("chosen", "meant")))
    sample = wb.language.sample_features(menu.ranges)
    rewards = {phrase: menu.spec(phrase).compile(sample) for phrase in phrases}
    replay, sampler = stored(cfg, saved), wb.tasks.TaskSampler(seed=cfg.seed)
    ranges, nearest = looked_at(replay, menu.ranges, rewards)
    agent, optimizer, suite = prepare(cfg, recipe, saved, ranges, nearest)
    with wb.run.Progress(cfg.fit + cfg.updates, unit="updates") as progress:
        for step in range(cfg.fit + cfg.updates):
            mixture = replay.sample(sampler.counts(replay.tasks, saved.batch))
            mixture = mixture.to(wb.run.device_of(agent))
            update(agent, optimizer, recipe, saved, mixture, rewards, cfg, step)
            progress.update(step + 1)
    scores = judge(cfg, recipe, saved, agent, suite, rewards)
    rows, text = table(found, scores)
    aside = {
        "run",
        "recipe",
        "logdir",
        "instruction",
        "meant",
        "sentences",
        "cache",
        "offline",
        "device",
    }
    result = {"run": cfg.run.name, **{k: x for k, x in vars(cfg).items() if k not in aside}}
    result |= {"nearest": nearest, "sentences": rows, "scores": scores}
    (folder / "result.json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(f"{text}\nresult in {folder / 'result.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(wb.run.launch_tool(main, Config, __doc__))
