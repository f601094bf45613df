"""A tiny DreamerV3 for the ladder: the modules and losses of the recipe in a loop without files.

As a command it prints the table of the documentation, the healthy agent beside its broken twins:

    PYTHONPATH=recipes python tests/testing/ladder_agent.py --seeds 0 1 2
"""

import argparse
import dataclasses

import torch

import dreamerv3_atari as recipe
import dreamerv3_gym
import worldblocks as wb
from worldblocks.testing import RUNGS

# So small an agent takes a learning rate of 8e-3, and an entropy that keeps the policy open until
# rewards are predicted. One update for every 16 environment steps.
CFG = dataclasses.replace(
    recipe.PRESETS["smoke"],
    envs=32,
    batch=32,
    length=5,
    train_ratio=10.0,
    prefill=256,
    capacity=20_000,
    units=32,
    deter=64,
    groups=4,
    classes=8,
    blocks=4,
    depth=4,
    horizon=3,
    gamma=0.9,
    entropy=0.05,
    lr=8e-3,
    warmup=5,
)
# Until the picture is learnt, some 1000 updates, there is nothing to act on: the sizes, rates and
# weights that learn Catch from images, and one update for every 8 environment steps.
SEEN = ("envs", "batch", "length", "prefill", "horizon", "gamma", "entropy", "reconstruction")
SEEN += ("units", "deter", "classes", "groups", "depth", "blocks", "lr", "warmup")
PIXELS = dataclasses.replace(
    CFG,
    train_ratio=16.0,
    **{name: getattr(dreamerv3_gym.PRESETS["cpu_image"], name) for name in SEEN},
)
TWINS = ("resets ignored", "reward one row late", "actions shuffled")


class Learner:
    """One agent on copies of one environment; `twin` says what is wrong with it."""

    def __init__(self, environment, seed, cfg=CFG, twin="", recipe=recipe):
        assert twin in ("", *TWINS)
        torch.manual_seed(seed)
        self.recipe = recipe
        self.environment, self.cfg, self.twin = environment, cfg, twin
        world = environment()
        self.agent, self.optimizer = recipe.build(cfg, world.observation, world.action)
        self.replay = wb.replay.SequenceReplay(
            capacity=cfg.capacity, streams=cfg.envs, length=cfg.length, seed=seed
        )

    def vector(self, seed):
        return wb.envs.EnvVector([self.environment() for _ in range(self.cfg.envs)], seed=seed)

    def act(self, agent, obs, acting, is_first):
        told = is_first & (self.twin != "resets ignored")
        return self.recipe.act(agent, obs, acting, told)

    def train(self, steps, seed):
        """Act and learn for this many environment steps, over all copies of the environment."""
        cfg, envs = self.cfg, self.vector(seed)
        due = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
        rows, acting, late = envs.reset(), self.agent.initial(cfg.envs), torch.zeros(cfg.envs)
        for step in range(0, steps, cfg.envs):
            action, acting = self.act(self.agent, rows.obs, acting, rows.is_first)
            stored = rows._replace(reward=late) if self.twin == "reward one row late" else rows
            late, packed = rows.reward, self.agent.rssm.pack(acting.dynamics)
            self.replay.add(**stored._asdict(), carry=packed)
            for _ in range(due(step) if len(self.replay) >= cfg.prefill else 0):
                self.learn()
            rows = envs.step(action)

    def learn(self):
        """One update as the recipe does it, on a batch that a twin has spoilt."""
        rssm, batch = self.agent.rssm, self.replay.sample(self.cfg.batch)
        batch = batch._replace(carry=rssm.unpack(batch.carry))
        if self.twin == "resets ignored":
            batch = batch._replace(is_first=torch.zeros_like(batch.is_first))
        if self.twin == "actions shuffled":
            batch = batch._replace(prev_action=batch.prev_action[torch.randperm(self.cfg.batch)])
        post, self.metrics = self.recipe.update(self.agent, self.optimizer, batch, self.cfg)
        self.replay.write_back(batch.row, rssm.pack(post.carry))

    def score(self, episodes, seed):
        """Mean score of the sampling policy."""
        policy = wb.evaluate.AgentPolicy(self.act, self.agent, self.cfg.envs)
        scores = wb.evaluate.play(policy, self.vector(seed), episodes)
        return sum(scores) / len(scores)


def train(environment, steps, seed, twin="", recipe=recipe):
    """What `wb.testing.climb` takes."""
    seen = environment().observation.values()
    cfg = PIXELS if any(isinstance(space, wb.spaces.Image) for space in seen) else CFG
    learner = Learner(environment, seed, cfg, twin, recipe)
    learner.train(steps, seed)
    return learner.score(512, seed + 1_000_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [rung.name for rung in RUNGS]
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rungs", nargs="+", choices=names, default=names)
    parser.add_argument("--agents", nargs="+", choices=["healthy", *TWINS], default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    agents = chosen.agents or ["healthy", *TWINS]
    print(f"| rung | needed | {' | '.join(agents)} |\n|---|---|{'---|' * len(agents)}", flush=True)
    for rung in RUNGS:
        if rung.name not in chosen.rungs:
            continue
        print(f"| `{rung.name}` | {rung.needed:g} |", end="", flush=True)
        for agent in agents:
            twin = "" if agent == "healthy" else agent
            scores = [train(rung.environment, rung.steps, seed, twin) for seed in chosen.seeds]
            passed = sum(score >= rung.needed for score in scores)
            text = ", ".join(f"{score:.3g}" for score in scores)
            print(f" {text} ({passed} of {len(scores)}) |", end="", flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
