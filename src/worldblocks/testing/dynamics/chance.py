"""Promises about samples, and about the prior."""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from worldblocks.testing.dynamics.case import PLAIN, Case, Inputs, chosen, promise
from worldblocks.testing.promise import NotApplicable
from worldblocks.testing.promise.compare import (
    CLOSE,
    SAME,
    difference,
    expect,
    expect_equal,
    gradients,
    leaves_of,
    seeded,
    weighted,
)
from worldblocks.testing.promise.statistics import expect_same_moments

DRAWS = 8000


def draws_by_seed(case: Case, call: Any, seeds: int = 6) -> list[Tensor]:
    """The feature under several seeds, stacked; first axis: the seed."""
    found = []
    for seed in range(seeds):
        with seeded(seed), torch.no_grad():
            found.append(call().feature())
    return [torch.stack(found)]


@promise(
    "noise-of-its-own",
    "Elements and rows that are equal in all they are given draw samples of their own.",
    "the shape of the noise: one number for each element, row and sampled variable",
)
def noise_of_its_own(case: Case) -> None:
    rows = 8
    embed, action = torch.ones(rows, rows, case.embed_dim), torch.ones(rows, rows, case.action_dim)
    first = torch.ones(rows, rows, dtype=torch.bool)
    start = case.block.initial(rows)
    calls = {
        "observe": lambda: case.block.observe(start, embed, action, first),
        "imagine_step": lambda: case.block.imagine_step(start, action[:, 0]),
    }
    some = False
    for name, call in calls.items():
        (drawn,) = draws_by_seed(case, call)
        if difference(drawn[:1].expand_as(drawn), drawn) <= SAME:
            continue
        some = True
        axes = {"elements of a batch": 1, "rows of a sequence": 2}
        for axis, at in list(axes.items())[: drawn.ndim - 2]:
            alike = drawn.select(at, 0).unsqueeze(at).expand_as(drawn)
            what = f"equal {axis} draw equal samples in {name}"
            expect(difference(drawn, alike) > SAME, what, example=f"{rows} equal {axis}")
    if not some:
        raise NotApplicable("this block draws nothing")


@promise(
    "imagines-from-its-prior",
    "What imagination samples is distributed as the prior of its own state.",
    "`imagine_step`: a sample (not the mode) of the prior (not the posterior), unimix included",
)
def imagines_from_its_prior(case: Case) -> None:
    given = case.inputs(PLAIN)
    for k in range(PLAIN.batch):
        action = given.prev_action[k, :1].expand(DRAWS, -1)
        carry = pytree.tree_map(lambda x, k=k: x[k].expand(DRAWS, *x.shape[1:]), given.carry)
        with seeded(), torch.no_grad():
            state = case.block.imagine_step(carry, action)
            told = case.prior(state).sample()
        what = "the samples of imagine_step and of the prior have other moments"
        expect_same_moments(case.latent(state).flatten(1), told.flatten(1), what)


@promise(
    "prior-is-blind",
    "The prior of a row does not see that row's observation.",
    "what the prior reads: the deterministic state before the posterior has corrected it",
)
def prior_is_blind(case: Case) -> None:
    given = Inputs(*leaves_of(list(case.inputs(PLAIN))))
    other = given.embed.detach().clone()
    other[:, -1] = PLAIN.normal(case.embed_dim, key=77)[:, -1]
    ours, theirs = (
        case.prior(case.observe(x)).mean[:, -1] for x in (given, given._replace(embed=other))
    )
    what = f"the prior of row {PLAIN.time - 1} changed with the observation of that row"
    expect_equal(ours, theirs, what, allowed=SAME, example=PLAIN)
    slope = gradients(weighted([ours]), [given.embed])[0][:, -1]
    what = "the prior of a row has a gradient with respect to the observation of that row"
    expect_equal(slope, torch.zeros_like(slope), what, allowed=0.0, example=PLAIN)


@promise(
    "one-transition",
    "The prior is the same whether a row is imagined or observed.",
    "what `observe_step` and `imagine_step` give the transition: carry and action in one form",
)
def one_transition(case: Case) -> None:
    given = case.inputs(PLAIN)
    seen, dreamt = case.step(given), case.imagine(given.carry, given.prev_action[:, 0])
    what = "observe_step and imagine_step expect another latent from the same carry and action"
    ours, theirs = case.prior(dreamt).mean, case.prior(seen).mean
    expect_equal(ours, theirs, what, allowed=CLOSE, example=PLAIN)


@promise(
    "nan-stays",
    "NaN in one row raises an error, or stays in its element and in the rows after it.",
    "sums and norms over the batch axis",
)
def nan_stays(case: Case) -> None:
    given = case.inputs(PLAIN)
    bad = given.embed.clone()
    bad[0, 2] = torch.nan
    clean = torch.ones(PLAIN.batch, PLAIN.time, dtype=torch.bool)
    clean[0, 2:] = False
    try:
        states = case.observe(given._replace(embed=bad))
    except (ValueError, ArithmeticError, RuntimeError):
        return
    what = "NaN in the embedding of element 0, row 2, changed another element or an earlier row"
    ours, theirs = chosen(states, clean), chosen(case.observe(given), clean)
    expect_equal(ours, theirs, what, allowed=SAME, example=PLAIN)
