"""A run of three tasks that was saved without being played, for the tools that begin from one."""

import copy
from types import SimpleNamespace

import scripted_world as world
import torch
from scripted_world import TASKS

import multitask_dmc as recipe
import worldblocks as wb

SAVED = world.small(recipe, tasks=TASKS)
SHARED = ("encoder", "rssm", "decoder", "cont")


def moved(agent):
    """Every number of it another one."""
    with torch.no_grad():
        for number in agent.state_dict().values():
            number.add_(torch.rand(number.shape) if number.is_floating_point() else 1)
    return agent


def saved_run(folder):
    """A run of three tasks that was saved, its agent, and a recipe that can open it."""
    old, _ = recipe.build(SAVED, world.task_suite())
    for task in TASKS:
        old.heads.add(task, old.head(task))
    moved(old)
    wb.run.Checkpoint(folder).save({"agent": old.state_dict()})
    can = SimpleNamespace(build=recipe.build, task_suite=lambda cfg: world.task_suite(cfg.tasks))
    can.load = lambda run, device, task=TASKS[0]: (copy.deepcopy(old).task(task), SAVED)
    return SimpleNamespace(folder=folder, old=old, recipe=can)


def optimized(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def learnable(*modules):
    return {id(p) for module in modules for p in module.parameters() if p.requires_grad}


def same_numbers(ours, theirs):
    return all(torch.equal(x, theirs[name]) for name, x in ours.items())
