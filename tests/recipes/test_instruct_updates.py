"""The agent that `instruct` makes of a multi-task run, its update by hand, and its table."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scripted_world as world
import torch
from expected_updates import check_update, close, expected_instructed
from saved_run import SAVED, SHARED, learnable, optimized, same_numbers, saved_run
from scripted_world import TASKS

import instruct
import multitask_dmc as recipe
import worldblocks as wb


@pytest.fixture
def run(tmp_path):
    return saved_run(tmp_path)


REWARDS = {"up": world.FeatureReward(height=1.5), "lit": world.FeatureReward(height=-0.5, lamp=1.0)}
SHORT = {"run": Path("run"), "instruction": "up", "fit": 2, "updates": 9, "settle": 3, "gamma": 0.6}


@pytest.mark.parametrize("imagined", ["features", "head"])
@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_an_update_for_a_sentence(step, imagined):
    """Only features and rewards learn before step 2; critics learn from 2, actors from 5."""
    cfg = instruct.Config(imagined=imagined, **SHORT)
    agent, mixture = (
        world.scripted(recipe.Agent(world.task_suite(REWARDS), SAVED), REWARDS),
        stored(),
    )
    agent.features = world.Features()
    losses = expected_instructed(agent, world.mixture(), REWARDS, SAVED, cfg, step)
    scales = [part.return_scale.last for part in agent.heads.parts.values()]
    heads = list(agent.heads.parts.values())
    trained = [*agent.heads.parameters(), *agent.features.parameters()]
    check_update(
        agent,
        lambda by: instruct.update(agent, by, recipe, SAVED, mixture, REWARDS, cfg, step),
        losses,
        trained,
        heads if step >= cfg.fit else [],
    )
    for name in SHARED:
        assert all(p.grad is None for p in getattr(agent, name).parameters())
    for part, scale in zip(heads, scales, strict=True):
        assert torch.equal(part.return_scale.last, scale) is (step < cfg.fit)


def stored():
    """A mixture as replay returns it: a packed carry, and a feature that no phrase uses."""
    mixture = world.mixture()
    packed = tuple(world.World().pack(mixture.batch.carry))
    feature = mixture.feature | {"other": torch.full((5, 7), torch.nan)}
    return mixture._replace(batch=mixture.batch._replace(carry=packed), feature=feature)


@pytest.mark.parametrize("begin", ["nearest", "new"])
def test_the_heads_that_are_trained(run, begin):
    cfg = instruct.Config(**SHORT | {"run": run.folder}, begin=begin)
    nearest = {"up": "jump", "lit": "run"}
    agent, optimizer, _ = instruct.prepare(cfg, run.recipe, SAVED, world.RANGES, nearest)
    assert agent.heads.names == list(nearest)
    for name in SHARED:
        ours, theirs = (getattr(x, name).state_dict() for x in (agent, run.old))
        assert same_numbers(ours, theirs), name
    for phrase, task in nearest.items():
        ours, theirs = (
            x.state_dict() for x in (agent.heads[phrase].actor, run.old.heads[task].actor)
        )
        assert same_numbers(ours, theirs) is (begin == "nearest")
        assert not same_numbers(
            agent.heads[phrase].value.state_dict(), run.old.heads[task].value.state_dict()
        )
    assert optimized(optimizer) == learnable(agent.heads, agent.features)
    [group] = optimizer.param_groups
    assert (group["lr"], group["agc"], group["warmup"]) == (SAVED.lr, SAVED.agc, SAVED.warmup)


def test_the_nearest_head_is_of_the_rows_that_a_phrase_rewards_most():
    """Each task's rows have their own level of a feature; ranges are mean ± standard deviation."""
    mixture = world.mixture()
    level = torch.tensor([0.0, 5.0, -5.0])[mixture.task][:, None].expand(5, 7)
    feature = {"height": level + 0.1 * mixture.feature["height"], "lamp": (level < 0).float()}
    mixture = mixture._replace(feature=feature)
    replay = SimpleNamespace(tasks=list(TASKS), sample=lambda counts: mixture)
    rewards = {"up": world.FeatureReward(height=1.0), "down": world.FeatureReward(height=-1.0)}
    ranges, nearest = instruct.looked_at(replay, world.RANGES, rewards)
    assert nearest == {"up": "run", "down": "jump"}
    low, high, bit = ranges["height"]
    close(torch.tensor((low + high) / 2), feature["height"].mean(), "the middle")
    close(torch.tensor((high - low) / 2), feature["height"].std(), "the standard deviation")
    assert not bit
    assert ranges["lamp"] == world.RANGES["lamp"], "a bit ranges from 0 to 1"


def test_the_table_of_sentences():
    """Scores by the meant phrase, against the 95th percentile of 21 random episodes."""
    found = [{"instruction": "rise", "chosen": "up", "meant": "up"}]
    found += [{"instruction": "shine", "chosen": "up", "meant": "lit"}]
    scores = {
        "random": {"up": [float(k) for k in range(21)], "lit": [0.0] * 21},
        "up": {"up": [18.0, 21.0], "lit": [-3.0, -1.0]},
        "lit": {"up": [1.0, 1.0], "lit": [5.0, 7.0]},
        "head of walk": {"up": [4.0, 6.0], "lit": [0.0, 0.0]},
        "head of run": {"up": [2.0, 2.0], "lit": [1.0, 2.0]},
    }
    (rise, shine), text = instruct.table(found, scores)
    expected = {"policy": 19.5, "oracle": 19.5, "random_95": 19.0, "ok": True}
    expected |= {"best_head": "head of walk", "best_head_score": 5.0}
    assert rise == found[0] | expected
    expected = {"policy": -2.0, "oracle": 6.0, "random_95": 0.0, "ok": False}
    expected |= {"best_head": "head of run", "best_head_score": 1.5}
    assert shine == found[1] | expected
    assert text.splitlines()[-1] == "1 of 2 sentences"
    assert [line[:4] for line in text.splitlines()] == ["PASS", "FAIL", "1 of"]


class Lamp:
    """Shines in every row of its episodes of `length` steps, including the first."""

    def __init__(self, length):
        self.length = length
        self.observation = {"feat/lamp": wb.spaces.Continuous(())}
        self.action = {"push": wb.spaces.Continuous((1,))}

    def row(self):
        over = self.t == self.length
        return wb.envs.Step({"feat/lamp": np.float32(1)}, 0.0, self.t == 0, over, False)

    def reset(self, seed):
        self.t = 0
        return self.row()

    def step(self, action):
        self.t += 1
        return self.row()

    def get_state(self):
        return None

    def close(self):
        pass


class Shines:
    names = ("lamp",)

    def __call__(self, feature):
        return 2 * feature["lamp"]


def test_a_phrase_scores_the_first_episode_of_each_environment():
    """2 for each row after the first, in episodes of 1 and 6 steps."""
    envs = wb.envs.EnvVector([lambda: Lamp(1), lambda: Lamp(6)], seed=0)
    scores = instruct.played(lambda rows: torch.zeros(2, 1), envs, {"shine": Shines()})
    assert scores == {"shine": [2.0, 12.0]}
