"""Promises about `is_first`."""

import math

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.testing.dynamics.case import (
    MASKS,
    Case,
    Inputs,
    chosen,
    every,
    promise,
    some_trajectories,
)
from worldblocks.testing.episodes import Trajectory
from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import (
    SAME,
    cloned,
    expect,
    expect_equal,
    expect_zero,
    gradients,
    leaves_of,
    weighted,
)


def before_first(is_first: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of the rows before the first reset of their element, and of elements with a reset."""
    return (is_first.cumsum(1) == 0) & is_first.any(1)[:, None], is_first.any(1)


def with_history(case: Case, given: Inputs, trajectory: Trajectory, number: float) -> Inputs:
    """The inputs with other numbers for everything before the first reset of each element."""
    before, reset = before_first(given.is_first)
    other = case.inputs(trajectory, other=1)
    led = before.clone()
    led[:, 1:] |= before[:, :-1]  # the action at the reset belongs to the old episode
    led |= given.is_first & (given.is_first.cumsum(1) == 1)

    def replace(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
        new = torch.full_like(new, number) if number and new.is_floating_point() else new
        return torch.where(mask.reshape(*mask.shape, *[1] * (old.ndim - mask.ndim)), new, old)

    return Inputs(
        pytree.tree_map(lambda new, old: replace(reset, new, old), other.carry, given.carry),
        replace(before, other.embed, given.embed),
        replace(led, other.prev_action, given.prev_action),
        given.is_first,
    )


def forgets(case: Case, trajectory: Trajectory, number: float = 0.0) -> None:
    """Raise if a state after a reset changes with its history."""
    given = case.inputs(trajectory)
    before, _ = before_first(given.is_first)
    ours = case.observe(with_history(case, given, trajectory, number))
    what = "a state after a reset changed with the inputs before it"
    what += f" (which were {number})" if number else ""
    expect_equal(chosen(ours, ~before), chosen(case.observe(given), ~before), what, allowed=SAME)


@promise(
    "reset-forgets",
    "States after a reset do not depend on the carry, observations and actions before it, or on "
    "`prev_action` of its row.",
    MASKS,
)
def reset_forgets(case: Case) -> None:
    for_all(some_trajectories(), lambda trajectory: forgets(case, trajectory))


@promise(
    "reset-stops-nan",
    "NaN and infinity before a reset do not reach the states after it.",
    f"{MASKS}; torch.where(is_first, 0, x) does it, x * (1 - is_first) leaves NaN",
)
def reset_stops_nan(case: Case) -> None:
    for number in (math.nan, math.inf):
        for_all(some_trajectories(), lambda t, n=number: forgets(case, t, n), share=0.25)


@promise(
    "reset-stops-gradients",
    "No gradient crosses a reset.",
    f"{MASKS}; for a gradient of exactly 0 the mask must be part of the graph",
)
def reset_stops_gradients(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given = Inputs(*leaves_of(list(case.inputs(trajectory))))
        before, reset = before_first(given.is_first)
        if not reset.any():
            return
        loss = weighted(chosen(case.observe(given), ~before & reset[:, None]))
        *carry, embed, action = gradients(loss, given)
        crossing = [leaf[reset] for leaf in carry] + [embed[before], action[before]]
        what = "a state after a reset has a gradient with respect to inputs before it"
        expect_zero(crossing, what)

    for_all(some_trajectories(), body, share=0.5)


@promise(
    "reset-starts-fresh",
    "A row with `is_first` has the state of the initial carry and the zero action.",
    f"{MASKS}, and `initial`; the action of a first row is the zero vector, not a one-hot",
)
def reset_starts_fresh(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given = case.inputs(trajectory)
        now = given._replace(is_first=torch.ones_like(given.is_first))
        fresh = Inputs(
            case.block.initial(trajectory.batch),
            given.embed,
            torch.zeros_like(given.prev_action),
            torch.zeros_like(given.is_first),
        )
        what = "the state of a first row is not that of the initial carry"
        expect_equal(every(case.step(now)), every(case.step(fresh)), what)

    for_all(some_trajectories(time=(1, 1)), body, share=0.25)


@promise(
    "no-reset-no-change",
    "A reset affects its own element and row alone.",
    f"{MASKS}; any() over the batch resets every element",
)
def no_reset_no_change(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given = case.inputs(trajectory)
        other = case.inputs(trajectory, other=1)
        ours = case.step(given)
        theirs = case.step(given._replace(carry=other.carry))
        kept = ~given.is_first[:, 0]
        for k in kept.nonzero().flatten().tolist():
            gap = max(
                (a[k].double() - b[k].double()).abs().max().item()
                for a, b in zip(cloned(every(ours)), cloned(every(theirs)), strict=True)
            )
            expect(gap > SAME, "a row without is_first did not continue from its carry")

    for_all(some_trajectories(time=(1, 1)), body, share=0.5)
