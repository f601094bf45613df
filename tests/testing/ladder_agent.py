"""A tiny DreamerV3 for the ladder: the modules and losses of the recipe in a loop without files.

Alone, a table of rungs against twins: `python tests/testing/ladder_agent.py [--seeds 0 1 2]`.
"""

import dataclasses

import torch

import dreamerv3_atari as recipe
import worldblocks as wb

CFG = dataclasses.replace(
    recipe.PRESETS["smoke"],
    batch=16,
    length=6,
    units=32,
    deter=64,
    groups=4,
    classes=8,
    blocks=4,
    depth=4,
    horizon=5,
    gamma=0.9,
    lr=3e-3,
    warmup=20,
    entropy=2e-2,
    envs=16,
    train_ratio=8.0,
    prefill=256,
    return_floor=1.0,
)
TWINS = ("healthy", "resets ignored", "reward one row late", "actions shuffled")


class Learner:
    """One agent on one environment; `twin` says what is wrong with it."""

    def __init__(self, environment, seed, cfg=CFG, twin="healthy"):
        assert twin in TWINS
        torch.manual_seed(seed)
        self.cfg, self.twin, self.environment = cfg, twin, environment
        world = environment()
        self.agent, self.optimizer = recipe.build(cfg, world.observation, world.action)
        self.replay = wb.replay.SequenceReplay(
            capacity=cfg.capacity, streams=cfg.envs, length=cfg.length, seed=seed
        )
        self.updates = 0

    def vector(self, seed):
        return wb.envs.EnvVector([self.environment() for _ in range(self.cfg.envs)], seed=seed)

    def act(self, rows, carry):
        told = rows.is_first & (self.twin != "resets ignored")
        return recipe.act(self.agent, rows.obs, carry, told)

    def train(self, steps, seed):
        """Act and learn for so many environment steps, over all copies of the environment."""
        cfg, envs = self.cfg, self.vector(seed)
        due = wb.run.Ratio(cfg.train_ratio / (cfg.batch * cfg.length))
        rows, carry, late = envs.reset(), self.agent.initial(cfg.envs), torch.zeros(cfg.envs)
        for step in range(0, steps, cfg.envs):
            prev_action = carry[1]  # led to these rows
            action, carry = self.act(rows, carry)
            stored = rows._replace(reward=late) if self.twin == "reward one row late" else rows
            late, packed = rows.reward, self.agent.rssm.pack(carry[0])
            self.replay.add(**stored._asdict(), prev_action=prev_action, carry=packed)
            for _ in range(due(step) if len(self.replay) >= cfg.prefill else 0):
                self.learn()
            rows = envs.step(action)

    def learn(self):
        """One update, as the recipe does it, on a batch that a twin has spoilt."""
        rssm, batch = self.agent.rssm, self.replay.sample(self.cfg.batch)
        batch = batch._replace(carry=rssm.unpack(batch.carry))
        if self.twin == "resets ignored":
            batch = batch._replace(is_first=torch.zeros_like(batch.is_first))
        if self.twin == "actions shuffled":
            batch = batch._replace(prev_action=batch.prev_action[torch.randperm(self.cfg.batch)])
        post, self.metrics = recipe.update(self.agent, self.optimizer, batch, self.cfg)
        self.replay.write_back(batch.row, rssm.pack(post.carry))
        self.updates += 1

    def score(self, episodes, seed):
        """Mean score of the sampling policy; the episodes that begin first, whatever their length."""
        envs, scores = self.vector(seed), [[] for _ in range(self.cfg.envs)]
        each = -(-episodes // self.cfg.envs)
        rows, carry = envs.reset(), self.agent.initial(self.cfg.envs)
        while min(map(len, scores)) < each:
            action, carry = self.act(rows, carry)
            rows = envs.step(action)
            for env, score, _ in envs.finished:
                scores[env].append(score)
        return sum(sum(own[:each]) for own in scores) / (each * self.cfg.envs)


def train(environment, steps, seed, cfg=CFG, twin="healthy"):
    """What `wb.testing.climb` takes."""
    learner = Learner(environment, seed, cfg, twin)
    learner.train(steps, seed)
    return learner.score(256, seed + 1_000_000)
