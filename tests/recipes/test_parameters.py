"""Every trainable parameter that a recipe builds moves in its update."""

import dataclasses
import importlib

import pytest
import scripted_world as world
import torch
from expected_updates import moves
from scripted_world import ACTIONS, SPACES, TASKS

import glam
import glam_policy
import vae
import world_model
import worldblocks as wb

SINGLE = ("dreamerv3_atari", "dreamerv3_dmc", "dreamerv3_gym")


def mixture(agent, tasks):
    """Windows with the carry of a real dynamics block."""
    made = world.mixture(tasks)
    carry = agent.rssm.initial(len(made.task))
    return made._replace(batch=made.batch._replace(carry=carry))


def check_settings(optimizer, cfg):
    [group] = optimizer.param_groups
    assert (group["lr"], group["agc"], group["warmup"]) == (cfg.lr, cfg.agc, cfg.warmup)


@pytest.mark.parametrize("actor_grad", ["reinforce", "dynamics"])
@pytest.mark.parametrize("name", SINGLE)
def test_one_task(name, actor_grad):
    recipe = importlib.import_module(name)
    cfg = world.small(recipe, actor_grad=actor_grad)
    agent, optimizer = recipe.build(cfg, SPACES, ACTIONS)
    check_settings(optimizer, cfg)
    batch = world.windows()._replace(carry=agent.rssm.initial(5))
    moves(agent, optimizer, lambda: recipe.update(agent, optimizer, batch, cfg), agent)


@pytest.mark.parametrize("name", ["multitask_dmc", "multitask_atari"])
def test_several_tasks(name):
    recipe = importlib.import_module(name)
    cfg = world.small(recipe, tasks=TASKS)
    agent, optimizer = recipe.build(cfg, world.task_suite())
    check_settings(optimizer, cfg)
    replay = wb.replay.MixtureReplay(capacity=40, streams=1, length=7)
    envs = lambda task: Empty()  # noqa: E731
    wb.tasks.set_tasks(TASKS, agent, optimizer, replay, wb.tasks.TaskEnvironments(), envs)
    given = mixture(agent, TASKS)
    moves(agent, optimizer, lambda: recipe.update(agent, optimizer, given, cfg), agent)


@pytest.mark.parametrize("name", ["multitask_dmc", "multitask_atari"])
def test_each_head_takes_the_actions_of_its_own_task(name):
    recipe, suite = importlib.import_module(name), world.task_suite(narrow=TASKS[1:2])
    agent = recipe.Agent(suite, world.small(recipe))
    feature = torch.zeros(1, agent.rssm.feature_dim)
    sizes = [agent.head(task).actor(feature).size for task in TASKS]
    assert sizes == [wb.spaces.action_size(suite.actions[task]) for task in TASKS] == [2, 1, 2]


class Empty:
    """Environments that are never played."""

    def reset(self):
        pass

    def __len__(self):
        return 1


def test_candidates():
    cfg = world.small(glam, heads=2)
    agent, optimizer = glam.build(cfg, world.place(), 5)
    assert agent.heads.names == ["0", "1"], "heads for some of the candidates"
    check_settings(optimizer, cfg)
    given, specs = mixture(agent, ["0", "1"]), [world.FeatureReward(height=1.0), None]
    moves(agent, optimizer, lambda: glam.update(agent, optimizer, cfg, given, specs), agent)


@pytest.mark.parametrize("name", [*SINGLE, "multitask_dmc", "multitask_atari", "glam"])
def test_the_constants_of_the_paper(name):
    """Rates, percentiles and layers, also of each of several heads."""
    recipe = importlib.import_module(name)
    cfg, rate, floor = world.small(recipe), 0.02, 1.0
    if name in SINGLE:
        cfg, rate, floor = world.small(recipe, slow_rate=0.1, return_floor=0.5), 0.1, 0.5
        head = agent = recipe.Agent(SPACES, ACTIONS, cfg)
    elif name == "glam":
        agent = recipe.Agent(world.place(), 2, cfg)
        head = agent.heads["1"]
    else:
        agent = recipe.Agent(world.task_suite(), cfg)
        head = agent.head("run")
    assert (head.return_scale.rate, head.return_scale.floor) == (0.01, floor)
    assert head.slow_value.rate == rate
    torch.testing.assert_close(head.return_scale.percents, torch.tensor([0.05, 0.95]))
    assert all(map(torch.equal, head.slow_value.parameters(), head.value.parameters()))
    actor = getattr(head.actor, "actor", head.actor)
    layers = [len(x.mlp) for x in (agent.cont, head.reward, actor, head.value)]
    assert layers == [1, 1, 3, 3]
    assert agent.rssm.latent.unimix == 0.01
    for part in (head.reward, head.value):
        assert not part.out.weight.any(), "predicts 0 at first"


def test_an_autoencoder():
    cfg = vae.PRESETS["smoke"]
    model, optimizer = vae.build(cfg, {"image": wb.spaces.Image(48, 48, 1)})
    check_settings(optimizer, cfg)
    frames = torch.randint(256, (4, 48, 48, 1), dtype=torch.uint8)
    moves(model, optimizer, lambda: vae.update(model, optimizer, frames, cfg), model)


def test_recorded_data():
    cfg = world_model.PRESETS["smoke"]
    agent, optimizer = world_model.build(cfg, SPACES, wb.spaces.action_size(ACTIONS))
    check_settings(optimizer, cfg)
    batch = world.windows()._replace(carry=None)
    moves(agent, optimizer, lambda: world_model.update(agent, optimizer, batch, cfg), agent)
    layers = [len(x.mlp) for x in (agent.cont, agent.reward)]
    assert (layers, agent.rssm.latent.unimix) == ([1, 1], 0.01)


def test_a_language_model():
    """Only LoRA weights and the value head move."""
    pytest.importorskip("peft", reason="needs the extra llm")
    cfg = dataclasses.replace(glam_policy.PRESETS["smoke"], lr=0.02)
    agent, optimizer = glam_policy.build(cfg)
    assert optimizer.param_groups[0]["lr"] == 0.02
    [network] = agent.policy._network
    rest = {name: x.clone() for name, x in network.named_parameters() if "lora_" not in name}
    action = torch.eye(6)[[0, 3]]
    numbers = [torch.tensor([-1.0, 1.0]) for _ in range(4)]
    part = glam_policy.Rollout(["go", "stop"], action, *numbers)
    moves(agent, optimizer, lambda: glam_policy.update(agent, optimizer, part, cfg), agent)
    assert all(torch.equal(x, rest[n]) for n, x in network.named_parameters() if n in rest)
