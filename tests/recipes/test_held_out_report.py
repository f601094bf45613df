"""The report after a run fails a world model that was trained on shuffled actions."""

import dataclasses

import pytest
import torch

import dreamerv3_atari as recipe
import worldblocks as wb
from square_world import SquareWorld

CFG = dataclasses.replace(
    recipe.PRESETS["smoke"], units=32, deter=64, groups=4, classes=8, depth=2, lr=3e-3, warmup=5
)
UPDATES, LENGTH = 90, 8


def wander(agent, obs, acting, is_first):
    """Random actions, in place of `recipe.act`."""
    place = torch.randint(agent.action_size, (len(is_first),))
    action = torch.nn.functional.one_hot(place, agent.action_size).float()
    return action, acting._replace(prev_action=action)


def experience(agent, seed):
    worlds = [SquareWorld(obeys=True) for _ in range(8)]
    policy = wb.evaluate.AgentPolicy(wander, agent, len(worlds))
    return wb.evaluate.collect(policy, wb.envs.EnvVector(worlds, seed=seed), 161)


def learn(agent, optimizer, data):
    """Train the world model alone, on random windows with a zero carry."""
    for _ in range(UPDATES):
        start = int(torch.randint(data.reward.shape[1] - LENGTH, ()))
        batch = data.map(lambda x: x[:, start : start + LENGTH])  # noqa: B023
        batch = batch._replace(carry=agent.rssm.initial(8))
        batch.is_first[:, 0] = True
        _, losses, _ = recipe.world_model_loss(agent, batch, CFG)
        optimizer.zero_grad()
        torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_model_trained_on_shuffled_actions_fails(shuffled):
    world = SquareWorld(obeys=True)
    agent, optimizer = recipe.build(CFG, world.observation, world.action)
    data = experience(agent, seed=1)
    if shuffled:
        actions = data.prev_action.flatten(0, 1)
        mixed = actions[torch.randperm(len(actions))].view_as(data.prev_action)
        data = data._replace(prev_action=mixed)
    learn(agent, optimizer, data)
    checks = wb.diagnose.judge(agent, experience(agent, seed=2), gamma=0.9, seen=data)
    report = {check.name: check for check in checks}
    print(wb.evaluate.format_report(checks))
    assert report["image error at 15 steps with the true actions"].passed is not shuffled
    assert report["open-loop image error at 15 steps"].passed is not shuffled
