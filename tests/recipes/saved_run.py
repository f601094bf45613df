"""A run of three tasks, saved without playing, for the tools that start from a run."""

import copy
from types import SimpleNamespace

import scripted_world as world
import torch
from scripted_world import TASKS

import multitask_dmc as recipe
import worldblocks as wb

SAVED = world.small(recipe, tasks=TASKS)
SHARED = ("encoder", "rssm", "decoder", "cont")


def change(agent):
    """Change every number of an agent."""
    with torch.no_grad():
        for number in agent.state_dict().values():
            number.add_(torch.rand(number.shape) if number.is_floating_point() else 1)


def saved_run(folder):
    """The folder of such a run, its agent, and a recipe that can load it."""
    old, _ = recipe.build(SAVED, world.task_suite())
    for task in TASKS:
        old.heads.add(task, old.head(task))
    change(old)
    wb.run.Checkpoint(folder).save({"agent": old.state_dict()})
    opens = SimpleNamespace(build=recipe.build, task_suite=lambda cfg: world.task_suite(cfg.tasks))
    opens.load = lambda run, device, task=TASKS[0]: (copy.deepcopy(old).task(task), SAVED)
    return SimpleNamespace(folder=folder, old=old, recipe=opens)


def optimized(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def learnable(*modules):
    return {id(p) for module in modules for p in module.parameters() if p.requires_grad}


def same_numbers(ours, theirs):
    return all(torch.equal(x, theirs[name]) for name, x in ours.items())
