"""Promises about batch elements and the order of rows."""

from typing import Any

import torch
from torch.utils import _pytree as pytree

from worldblocks.rssm.imagination import imagine
from worldblocks.testing.dynamics.case import (
    PLAIN,
    Case,
    Inputs,
    every,
    promise,
    some_trajectories,
)
from worldblocks.testing.episodes import Trajectory, trajectories
from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import (
    SAME,
    expect_different,
    expect_equal,
    expect_zero,
    gradients,
    leaves_of,
    rows,
    steady,
    weighted,
)

LOOP = "the loop over rows in `observe`, or `scan`: the carry, action and flag of each step"
AXES = "reshapes, transposes and means over the batch axis; the axes are `batch time ...`"


def one_changed(case: Case, given: Inputs, trajectory: Trajectory, element: int) -> Inputs:
    """The inputs with other numbers and flags for one element."""
    other = case.inputs(trajectory, other=1)
    mine = torch.arange(trajectory.batch) == element

    def replace(new: Any, old: Any) -> Any:
        return torch.where(mine.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    pairs = zip(other[1:3], given[1:3], strict=True)
    carry = pytree.tree_map(replace, other.carry, given.carry)
    flags = replace(~given.is_first, given.is_first)
    embed, action = (replace(new, old) for new, old in pairs)
    return Inputs(carry, embed, action, flags)


@promise("batch", "Elements of a batch are independent.", AXES)
def batch(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given, last = case.inputs(trajectory), trajectory.batch - 1
        ours = case.observe(one_changed(case, given, trajectory, last))
        what = f"the states of another element changed with the inputs of element {last}"
        others = slice(0, last)
        theirs = rows(every(case.observe(given)), others)
        expect_equal(rows(every(ours), others), theirs, what, allowed=SAME)

    for_all(some_trajectories(batch=(2, 3)), body, share=0.5)


@promise("batch-gradients", "No gradient flows from one element of a batch to another.", AXES)
def batch_gradients(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given = Inputs(*leaves_of(list(case.inputs(trajectory))))
        loss = weighted(rows(every(case.observe(given)), slice(0, 1)))
        leaked = [g[1:] for g in gradients(loss, given)]
        what = "the states of element 0 have a gradient with respect to the inputs of another"
        expect_zero(leaked, what)

    for_all(some_trajectories(batch=(2, 3)), body, share=0.25)


@promise("causal", "A state does not depend on later rows.", LOOP)
def causal(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given, half = case.inputs(trajectory), trajectory.time // 2
        other = case.inputs(trajectory, other=1)
        flipped = other._replace(is_first=~given.is_first)
        pairs = zip(given[1:], flipped[1:], strict=True)
        later = Inputs(given.carry, *(torch.cat([a[:, :half], b[:, half:]], 1) for a, b in pairs))
        past = (slice(None), slice(0, half))
        what = f"a state of the rows before row {half} changed with row {half} and after"
        ours, theirs = (rows(every(case.observe(x)), past) for x in (later, given))
        expect_equal(ours, theirs, what, allowed=SAME)

    for_all(some_trajectories(time=(2, 5)), body, share=0.5)


@promise("causal-gradients", "No gradient flows from a state to later rows.", LOOP)
def causal_gradients(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given, half = Inputs(*leaves_of(list(case.inputs(trajectory)))), trajectory.time // 2
        loss = weighted(rows(every(case.observe(given)), (slice(None), slice(0, half))))
        *_, embed, action = gradients(loss, given)
        later = [embed[:, half:], action[:, half:]]
        what = f"a state before row {half} has a gradient with respect to a later row"
        expect_zero(later, what)

    for_all(some_trajectories(time=(2, 5)), body, share=0.25)


@promise("observe-is-steps", "`observe` has the values and gradients of repeated steps.", LOOP)
def observe_is_steps(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        outcomes = []
        for walk in (case.observe, lambda given: by_steps(case, given)):
            given = Inputs(*leaves_of(list(case.inputs(trajectory))))
            states = walk(given)
            weights = [p for p in case.block.parameters() if p.requires_grad]
            loss = weighted(every(states))
            outcomes.append((every(states), gradients(loss, [given, weights])))
        (ours, slopes), (theirs, their_slopes) = outcomes
        expect_equal(ours, theirs, "`observe` and repeated `observe_step` give different states")
        what = "`observe` and repeated `observe_step` give different gradients"
        expect_equal(slopes, their_slopes, what, allowed=1e-3)

    for_all(some_trajectories(), body, share=0.5)


def by_steps(case: Case, given: Inputs) -> Any:
    """The states of a sequence, row by row."""
    states, carry = [], given.carry
    with steady():
        for row in zip(*(x.unbind(1) for x in given[1:]), strict=True):
            states.append(case.block.observe_step(carry, *row))
            carry = states[-1].carry
    return pytree.tree_map(lambda *parts: torch.stack(parts, 1), *states)


@promise("observe-in-pieces", "Two halves give the same states as the whole sequence.", LOOP)
def observe_in_pieces(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        given, half = case.inputs(trajectory), trajectory.time // 2
        with steady():  # one context: the second piece continues the random numbers
            first = case.block.observe(given.carry, *(x[:, :half] for x in given[1:]))
            carry = rows(first, (slice(None), half - 1)).carry
            second = case.block.observe(carry, *(x[:, half:] for x in given[1:]))
        pieces = [torch.cat(pair, 1) for pair in zip(every(first), every(second), strict=True)]
        what = f"the sequence has other states when it is cut before row {half}"
        expect_equal(pieces, every(case.observe(given)), what)

    for_all(trajectories(batch=(1, 2), time=(2, 5)), body, share=0.25)


def changed_row(case: Case, field: str, t: int) -> tuple[Any, Any]:
    """States before and after row t of one input changes; no resets."""
    given = case.inputs(PLAIN)
    value = getattr(given, field).clone()
    value[:, t] = getattr(case.inputs(PLAIN, other=1), field)[:, t]
    return case.observe(given), case.observe(given._replace(**{field: value}))


def row_of(states: Any, t: int) -> list[torch.Tensor]:
    """Row t of every tensor of the states."""
    return [x[:, t] for x in every(states)]


@promise(
    "action-of-its-row",
    "`prev_action` of a row led to it: it changes the state of that row and of no earlier row.",
    "the action of each step: prev_action[:, t], which was chosen at row t - 1",
)
def action_of_its_row(case: Case) -> None:
    for t in range(PLAIN.time):
        before, after = changed_row(case, "prev_action", t)
        what = f"prev_action of row {t} did not change the state of row {t}"
        expect_different(row_of(before, t), row_of(after, t), what, example=PLAIN)
        if t:
            what = f"prev_action of row {t} changed the state of row {t - 1}"
            ours, theirs = row_of(after, t - 1), row_of(before, t - 1)
            expect_equal(ours, theirs, what, allowed=SAME, example=PLAIN)


@promise(
    "observation-of-its-row",
    "The embedding of a row changes the state of that row.",
    "the posterior: does it read the embedding of this row?",
)
def observation_of_its_row(case: Case) -> None:
    for t in range(PLAIN.time):
        before, after = changed_row(case, "embed", t)
        what = f"the embedding of row {t} did not change the state of row {t}"
        expect_different(row_of(before, t), row_of(after, t), what, example=PLAIN)


@promise(
    "remembers",
    "An observation changes later states, up to the next reset.",
    "the carry: is it passed from row to row without a reset?",
)
def remembers(case: Case) -> None:
    before, after = changed_row(case, "embed", 0)
    last = PLAIN.time - 1
    what = f"another observation of row 0 did not change the state of row {last}"
    expect_different(row_of(before, last), row_of(after, last), what, example=PLAIN)


@promise("continues", "`observe` continues from its carry argument.", "the first step of `observe`")
def continues(case: Case) -> None:
    given = case.inputs(PLAIN)
    other = case.observe(given._replace(carry=case.inputs(PLAIN, other=1).carry))
    what = "another carry gave the same state of row 0"
    expect_different(row_of(case.observe(given), 0), row_of(other, 0), what, example=PLAIN)


@promise(
    "imagine-is-steps",
    "Imagination is repeated `imagine_step`: a state follows from the last carry and action.",
    "`imagine_step`: does it keep a state of its own between calls?",
)
def imagine_is_steps(case: Case) -> None:
    given = case.inputs(PLAIN)
    actions = PLAIN.normal(case.action_dim, key=5)
    for trained in (True, False):  # a block may compute differently without gradients
        turn = iter(actions.unbind(1))
        with torch.set_grad_enabled(trained):
            state = start = case.step(given)
            with steady():
                states, _ = imagine(case.block, start, lambda state: next(turn), PLAIN.time - 1)  # noqa: B023
            with steady():
                for t in range(PLAIN.time - 1):
                    state = case.block.imagine_step(state.carry, actions[:, t])
                    what = f"row {t + 1} of an imagined sequence is not the step from row {t}"
                    expect_equal(row_of(states, t + 1), every(state.light()), what, example=PLAIN)
