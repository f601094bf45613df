"""One update of each recipe with a world model, against plain loops."""

import dataclasses
import importlib

import pytest
import scripted_world as world
from expected_updates import (
    check_result,
    check_update,
    close,
    expected_recorded,
    expected_several,
    expected_single,
)
from scripted_world import ACTIONS, SPACES, TASKS

import glam
import multitask_atari
import multitask_dmc
import world_model
import worldblocks as wb

SINGLE = ("dreamerv3_atari", "dreamerv3_dmc", "dreamerv3_gym")
SEVERAL = [multitask_dmc, multitask_atari]
SPECS = [
    world.FeatureReward(height=1.5),
    None,
    world.FeatureReward(height=-0.5, lamp=1.0),
]


@pytest.mark.parametrize("imag_last", [0, 3])
@pytest.mark.parametrize("name", SINGLE)
def test_one_task(name, imag_last):
    recipe = importlib.import_module(name)
    cfg = world.small(recipe, imag_last=imag_last)
    agent, batch = world.scripted(recipe.Agent(SPACES, ACTIONS, cfg)), world.windows()
    post, losses, metrics = expected_single(agent, batch, cfg)
    found = check_update(agent, lambda opt: recipe.update(agent, opt, batch, cfg), losses)
    check_result(found, post, losses, metrics)
    close(agent.return_scale.last, metrics["return_scale"], "the return scale")


@pytest.mark.parametrize("imag_last", [0, 3])
@pytest.mark.parametrize("reward_grad", ["none", "all"])
@pytest.mark.parametrize("recipe", SEVERAL, ids=lambda recipe: recipe.__name__)
def test_a_head_for_each_task(recipe, reward_grad, imag_last):
    cfg = world.small(recipe, reward_grad=reward_grad, imag_last=imag_last)
    agent, mixture = world.scripted(recipe.Agent(world.task_suite(), cfg), TASKS), world.mixture()
    post, losses, metrics = expected_several(agent, mixture, cfg)
    found = check_update(agent, lambda opt: recipe.update(agent, opt, mixture, cfg), losses)
    check_result(found, post, losses, metrics)
    for task in TASKS:
        scale = agent.heads[task].return_scale.last
        close(scale, metrics[f"{task}/return_scale"], f"the return scale of {task}")


@pytest.mark.parametrize("imag_last", [0, 3])
@pytest.mark.parametrize("imagined", ["head", "features"])
@pytest.mark.parametrize("reward_grad", ["none", "all"])
def test_a_head_for_each_candidate(reward_grad, imagined, imag_last):
    changes = {"reward_grad": reward_grad, "imagined": imagined, "imag_last": imag_last}
    cfg = world.small(glam, features=0.7, **changes)
    names = [str(k) for k in range(len(SPECS))]
    agent = world.scripted(glam.Agent(world.place(), len(names), cfg), names)
    mixture = world.mixture(names)
    post, losses, metrics = expected_several(agent, mixture, cfg, SPECS)
    found = check_update(agent, lambda opt: glam.update(agent, opt, cfg, mixture, SPECS), losses)
    check_result(found, post, losses, metrics)


def test_recorded_data():
    """A world model alone: no actor, no critic; held-out losses are the same ones."""
    numbers = {"gamma": 0.9, "reconstruction": 0.6}
    cfg = dataclasses.replace(world_model.PRESETS["smoke"], **numbers)
    size = wb.spaces.action_size(ACTIONS)
    agent, batch = world.alone(world_model.Agent(SPACES, size, cfg)), world.windows()
    losses, metrics = expected_recorded(agent, batch, cfg)
    for name, value in world_model.judge(agent, batch, cfg).items():
        close(value, losses[name.removeprefix("held_out/")].mean(), name)
    update = lambda by: world_model.update(agent, by, batch, cfg)  # noqa: E731
    found = check_update(agent, update, losses, followed=[])
    assert found.keys() == metrics.keys() | {f"loss/{name}" for name in losses}
    for name, value in found.items():
        expected = metrics | {f"loss/{key}": loss for key, loss in losses.items()}
        close(value, expected[name].detach().mean(), name)
