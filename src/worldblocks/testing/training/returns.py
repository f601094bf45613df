"""Promises of return estimators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.testing.episodes import Trajectory, trajectories
from worldblocks.testing.promise import Names, NotApplicable, Promises, Report, for_all
from worldblocks.testing.promise.compare import (
    SAME,
    expect,
    expect_compiles,
    expect_equal,
    expect_untouched,
    gradients,
    weighted,
)

promise = Promises()
ROWS = "the rows of reward, discount and value: all are destination rows"
Definition = Callable[[list[float], list[float], list[float], list[bool]], list[float]]
PLAIN = Trajectory(begins=(False,) * 3, rows=("....",) * 3, seed=0)


class Case(NamedTuple):
    """An estimator under test."""

    estimator: Callable[..., Tensor]
    definition: Definition | None
    cuts: bool

    def __call__(self, rows: "Rows") -> Tensor:
        return self.estimator(*(rows if self.cuts else rows[:3]))


class Rows(NamedTuple):
    """The destination rows of a trajectory."""

    reward: Tensor
    discount: Tensor
    value: Tensor
    cut: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        """Apply a function to all tensors but the flags."""
        reward, discount, value = (function(x) for x in self[:3])
        return Rows(reward, discount, value, self.cut)


def destination(trajectory: Trajectory, other: int = 0) -> Rows:
    """Random destination rows; discounts are between 0.5 and 1, and 0 at an end."""
    reward, value = (trajectory.normal(key=key + 10 * other) for key in (1, 2))
    alive = 0.5 + 0.5 * trajectory.normal(key=3 + 10 * other).sigmoid()
    cut = torch.tensor([[letter != "." for letter in row] for row in trajectory.rows])
    return Rows(reward, torch.where(trajectory.is_terminal, 0.0, alive), value, cut)


def some(case: Case, time: tuple[int, int] = (1, 6)) -> Any:
    """Trajectories with all kinds of ends if the estimator takes cuts, else with terminals."""
    return trajectories(time=time, ends=".ALT" if case.cuts else ".T")


@promise("shape", "There is one return for each row, in the rewards' dtype.", "the returned tensor")
def shape(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        rows = destination(PLAIN).map(lambda x, to=dtype: x.to(to))
        out = case(rows)
        what = f"rows of shape {tuple(rows.reward.shape)} and {dtype} gave {tuple(out.shape)}"
        expect(out.shape == rows.reward.shape and out.dtype == dtype, f"{what} of {out.dtype}")


@promise(
    "consistent-values",
    "If the values are consistent, v[t-1] = r[t] + γ[t] v[t], the returns are the values.",
    f"{ROWS}; and the bootstrap from the last value",
)
def consistent_values(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        rows = destination(trajectory)
        before = torch.cat([trajectory.normal(key=9)[:, :1], rows.value[:, :-1]], 1)
        rows = rows._replace(reward=before - rows.discount * rows.value)
        expect_equal(case(rows), before, "the returns differ from the consistent values")

    for_all(some(case), body)


@promise(
    "definition",
    "The returns match the definition, a loop over plain numbers.",
    "the recursion: its factors, and the row of each",
)
def is_its_definition(case: Case) -> None:
    if case.definition is None:
        raise NotApplicable("pass definition=..., a loop over lists, to test it")
    define = case.definition

    def body(trajectory: Trajectory) -> None:
        rows = destination(trajectory)
        expected = [define(*(x.tolist() for x in row)) for row in zip(*rows, strict=True)]
        what = "the returns differ from the definition"
        expect_equal(case(rows), torch.tensor(expected), what)

    for_all(some(case), body)


@promise("batch", "Elements of a batch are independent.", "reshapes and transposes")
def batch(case: Case) -> None:
    rows, other = destination(PLAIN), destination(PLAIN, other=1)
    mixed = Rows(*(torch.cat([a[:2], b[2:]]) for a, b in zip(rows, other, strict=True)))
    what = "the returns of element 0 or 1 changed with the rows of element 2"
    expect_equal(case(mixed)[:2], case(rows)[:2], what, allowed=SAME, example=PLAIN)


@promise("past", "A return does not depend on earlier rows.", "the direction of the sum")
def past(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        rows, other = destination(trajectory), destination(trajectory, 1)
        half = trajectory.time // 2
        pairs = zip(rows[:3], other[:3], strict=True)
        reward, discount, value = (torch.cat([b[:, :half], a[:, half:]], 1) for a, b in pairs)
        ours = case(Rows(reward, discount, value, rows.cut))[:, half:]
        what = f"a return from row {half} on changed with an earlier row"
        expect_equal(ours, case(rows)[:, half:], what, allowed=SAME)

    for_all(some(case, time=(2, 6)), body, share=0.5)


def nothing_beyond(case: Case, trajectory: Trajectory, stops: Tensor, name: str) -> None:
    """Raise if a return changes with rows after the first stop of its element."""
    rows, other = destination(trajectory), destination(trajectory, 1)
    beyond = (stops.cumsum(1) - stops.int() > 0) & stops.any(1)[:, None]
    pairs = zip(rows[:3], other[:3], strict=True)
    reward, discount, value = (torch.where(beyond, b, a) for a, b in pairs)
    ours, theirs = case(Rows(reward, discount, value, rows.cut)), case(rows)
    what = f"a return changed with rows that come after {name}"
    expect_equal(ours[~beyond], theirs[~beyond], what, allowed=SAME)


@promise("ends", "At a discount of 0 the return is the reward.", ROWS)
def ends(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        rows, terminal = destination(trajectory), trajectory.is_terminal
        what = "the return of a row with discount 0 is not its reward"
        expect_equal(case(rows)[terminal], rows.reward[terminal], what, allowed=SAME)
        nothing_beyond(case, trajectory, terminal, "an end")

    for_all(some(case), body)


@promise(
    "cuts",
    "At a cut the return bootstraps from the value of that row.",
    "the flag of a cut: λ is 0 there, the discount is not (a time limit is no terminal)",
)
def cuts(case: Case) -> None:
    if not case.cuts:
        raise NotApplicable("pass cuts=True if the estimator takes cuts")

    def body(trajectory: Trajectory) -> None:
        rows = destination(trajectory)
        expected = rows.reward + rows.discount * rows.value
        what = "the return of a cut row is not reward + discount * value"
        expect_equal(case(rows)[rows.cut], expected[rows.cut], what, allowed=1e-5)
        nothing_beyond(case, trajectory, rows.cut, "a cut")

    for_all(some(case), body)


@promise(
    "gradients",
    "An input that changes the returns has a gradient.",
    "detach() and no_grad() inside the estimator",
)
def slopes(case: Case) -> None:
    rows = destination(PLAIN).map(lambda x: x.requires_grad_())
    out = case(rows)
    for name, leaf, found in zip(
        ("reward", "discount", "value"), rows, gradients(weighted([out]), rows), strict=False
    ):
        moved = case(rows._replace(**{name: leaf.detach() + 0.1}))
        if (moved - out).abs().max() > SAME:
            what = f"the returns have no gradient with respect to the {name}"
            expect(bool(found.ne(0).any()), what)


@promise(
    "scales",
    "Returns scale with rewards and values, 1e-30 to 1e30.",
    "constants and clipping",
)
def scales(case: Case) -> None:
    rows = destination(PLAIN)
    expected = case(rows)
    for scale in (1e-30, 1e-6, 1e6, 1e30):
        ours = case(rows._replace(reward=rows.reward * scale, value=rows.value * scale)) / scale
        expect_equal(ours, expected, f"rewards and values times {scale} do not scale the returns")


@promise("float32", "float32 agrees with float64.", "sums in a lower precision")
def precise(case: Case) -> None:
    rows = destination(Trajectory((False,) * 2, ("." * 64,) * 2, 0))
    what = "the returns of 64 rows differ between float32 and float64"
    expect_equal(case(rows), case(rows.map(lambda x: x.double())), what, allowed=1e-5)


@promise("nan-stays", "NaN in one element does not affect others.", "sums over the batch axis")
def nan_stays(case: Case) -> None:
    rows = destination(PLAIN)
    reward = rows.reward.clone()
    reward[0, 1] = torch.nan
    try:
        ours = case(rows._replace(reward=reward))[1:]
    except ValueError:
        return
    expect_equal(ours, case(rows)[1:], "NaN in element 0 changed another element", allowed=SAME)


@promise("leaves-inputs-alone", "The estimator does not modify its inputs.", "in-place operations")
def leaves_inputs_alone(case: Case) -> None:
    given = destination(PLAIN)
    expect_untouched(lambda *rows: case(Rows(*rows)), given, "the arguments changed")


@promise("compiles", "It compiles to one graph with its eager results.", "Python branches")
def compiles(case: Case) -> None:
    expect_compiles(lambda *rows: case(Rows(*rows)), destination(PLAIN), "the estimator")


@promise.check
def check_return(
    estimator: Callable[..., Float[Tensor, "batch time"]],
    *,
    definition: Callable[[list[float], list[float], list[float], list[bool]], list[float]]
    | None = None,
    cuts: bool = True,
    only: Names = (),
    skip: Names = (),
) -> Report:
    """Test a return estimator, `estimator(reward, discount, value, cut)`, `batch time` each.

    All arguments are destination rows (see `worldblocks.returns`). The promises hold for every
    estimator that bootstraps from values: λ-returns, n-step returns, and off-policy estimators for
    equal policies.

    Args:
        estimator: returns the return of each row; `cut` is bool, set where an episode is cut.
        definition: the same for lists of one element, a slow loop that is obviously right.
        cuts: True if the estimator takes cuts; otherwise the last argument is left out.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(estimator, definition, cuts), estimator, only, skip)
