"""Promises about samples and the prior."""

import torch
from torch.utils import _pytree as pytree

from worldblocks.testing.dynamics.case import PLAIN, Case, Inputs, chosen, promise
from worldblocks.testing.promise import NotApplicable
from worldblocks.testing.promise.compare import (
    CLOSE,
    SAME,
    difference,
    expect,
    expect_equal,
    expect_zero,
    gradients,
    leaves_of,
    seeded,
    weighted,
)
from worldblocks.testing.promise.statistics import expect_same_moments

DRAWS = 8000


@promise(
    "noise-of-its-own",
    "Elements and rows with equal inputs draw different samples.",
    "the shape of the noise: it needs a number for each element, row and sampled variable",
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
        found = []
        for seed in range(6):
            with seeded(seed), torch.no_grad():
                found.append(call().feature())
        drawn = torch.stack(found)  # `seed ...`
        if difference(drawn[:1].expand_as(drawn), drawn) <= SAME:
            continue
        some = True
        axes = {"elements of a batch": 1, "rows of a sequence": 2}
        for axis, at in list(axes.items())[: drawn.ndim - 2]:
            alike = drawn.select(at, 0).unsqueeze(at).expand_as(drawn)
            what = f"{axis} with equal inputs draw equal samples in {name}"
            expect(difference(drawn, alike) > SAME, what, example=f"{rows} equal {axis}")
    if not some:
        raise NotApplicable("this block has no random samples")


@promise(
    "imagines-from-its-prior",
    "Samples of imagination have the distribution of the prior.",
    "`imagine_step`: a sample (not the mode) of the prior (not the posterior), unimix included",
)
def imagines_from_its_prior(case: Case) -> None:
    given = case.inputs(PLAIN)
    for k in range(PLAIN.batch):
        action = given.prev_action[k, :1].expand(DRAWS, -1)
        carry = pytree.tree_map(lambda x, k=k: x[k].expand(DRAWS, *x.shape[1:]), given.carry)
        with seeded(), torch.no_grad():
            state = case.block.imagine_step(carry, action)
            expected = case.prior(state).sample()
        what = "the samples of imagine_step and of the prior have different moments"
        expect_same_moments(case.latent(state).flatten(1), expected.flatten(1), what)


@promise(
    "prior-is-blind",
    "The prior of a row does not depend on the observation of that row.",
    "the input of the prior: the deterministic state, without the posterior sample of the row",
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
    expect_zero(slope, what, example=PLAIN)


@promise(
    "one-transition",
    "`observe_step` and `imagine_step` give the same prior.",
    "the inputs of the transition: both steps pass the same carry and the same form of action",
)
def one_transition(case: Case) -> None:
    given = case.inputs(PLAIN)
    observed, imagined = case.step(given), case.imagine(given.carry, given.prev_action[:, 0])
    what = "observe_step and imagine_step have different priors for the same carry and action"
    ours, theirs = case.prior(imagined).mean, case.prior(observed).mean
    expect_equal(ours, theirs, what, allowed=CLOSE, example=PLAIN)


@promise(
    "nan-stays",
    "NaN in a row either raises an error or affects only that row and later ones of its element.",
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
