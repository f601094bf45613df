"""Promises about gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.testing.dynamics.case import PLAIN, Case, Inputs, every, promise
from worldblocks.testing.promise.compare import (
    SAME,
    difference,
    expect,
    expect_different,
    expect_trained,
    gradients,
    leaves_of,
    seeded,
    tensors,
    weighted,
)

STOPS = "detach() and no_grad() between the inputs of a step and its state"
REACH = f"{STOPS}; a core that looks back fewer than 4 rows needs a longer window in this check"


@promise(
    "gradients-through-time",
    "The last state has a gradient with respect to every earlier embedding and action.",
    REACH,
)
def gradients_through_time(case: Case) -> None:
    given = Inputs(*leaves_of(list(case.inputs(PLAIN))))
    states = case.observe(given)
    loss = weighted([x[:, -1] for x in every(states)])
    *_, embed, action = gradients(loss, given)
    for name, found in (("embedding", embed), ("prev_action", action)):
        for t in range(PLAIN.time):
            what = f"the last state has no gradient with respect to the {name} of row {t}"
            expect(bool(found[:, t].ne(0).any()), what, example=PLAIN)


@promise(
    "gradients-through-the-carry",
    "Each part of the carry that changes the next state has a gradient.",
    f"{STOPS}: a part of the carry is detached",
)
def gradients_through_the_carry(case: Case) -> None:
    given = case.inputs(PLAIN)
    action = given.prev_action[:, 0]
    steps = {
        "observe_step": lambda carry: case.step(given._replace(carry=carry)),
        "imagine_step": lambda carry: case.imagine(carry, action),
    }
    for name, step in steps.items():
        carry = leaves_of(given.carry)
        out = every(step(carry))
        slopes = iter(gradients(weighted(out), carry))
        for place, leaf in enumerate(tensors(carry)):
            if leaf.requires_grad and influences(step, carry, place, out):
                what = f"the state of {name} depends on part {place} of the carry (shape "
                what += f"{tuple(leaf.shape)}) and has no gradient with respect to it"
                expect(bool(next(slopes).ne(0).any()), what, example=PLAIN)
            elif leaf.requires_grad:
                next(slopes)


def influences(step: Callable[[Any], Any], carry: Any, place: int, before: list[Tensor]) -> bool:
    """True if a state changes with one tensor of the carry."""
    with seeded(3), torch.no_grad():
        leaves, form = pytree.tree_flatten(carry)
        tensor = tensors(carry)[place]
        moved = [leaf + torch.randn_like(leaf) if leaf is tensor else leaf for leaf in leaves]
        return difference(every(step(pytree.tree_unflatten(moved, form))), before) > SAME


@promise(
    "gradients-of-features",
    "Each number of a feature, sampled ones included, has a gradient with respect to the inputs.",
    "the sample: straight-through for one-hots, mean + std * noise for normals; and detach()",
)
def gradients_of_features(case: Case) -> None:
    given = Inputs(*leaves_of(list(case.inputs(PLAIN))))
    with seeded():
        observed = case.block.observe(*given)
        imagined = case.block.imagine_step(given.carry, given.prev_action[:, 0])
    features = {"observe": observed.feature()[:, -1], "imagine_step": imagined.feature()}
    for name, feature in features.items():
        for column in range(feature.shape[-1]):
            found = gradients(feature[:, column].sum(), given)
            some = any(bool(g.ne(0).any()) for g in found)
            what = f"number {column} of the feature of {name} has no gradient"
            expect(some, what, example=PLAIN)


@promise(
    "gradients-reach-parameters",
    "Every parameter has a gradient from observation or imagination.",
    "unused parameters, and detach() behind used ones",
)
def gradients_reach_parameters(case: Case) -> None:
    given = case.inputs(PLAIN)
    observed = case.observe(given)
    imagined = case.imagine(given.carry, given.prev_action[:, 0])
    loss = weighted([*every(observed), *every(imagined)])
    expect_trained(case.block, loss)


@promise(
    "imagination-follows",
    "The state of `imagine_step` depends on its action and its carry.",
    "`imagine_step`: is the action passed to the transition?",
)
def imagination_follows(case: Case) -> None:
    given, other = case.inputs(PLAIN), case.inputs(PLAIN, other=1)
    action, another = given.prev_action[:, 0], other.prev_action[:, 0]
    here = every(case.imagine(given.carry, action))
    what = "another action led to the same imagined state"
    expect_different(here, every(case.imagine(given.carry, another)), what, example=PLAIN)
    what = "another carry led to the same imagined state"
    expect_different(here, every(case.imagine(other.carry, action)), what, example=PLAIN)
