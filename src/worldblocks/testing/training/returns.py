"""What a return estimator promises."""

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
ROWS = "which row each of reward, discount and value is taken from: all are of the destination"
Definition = Callable[[list[float], list[float], list[float], list[bool]], list[float]]
PLAIN = Trajectory(begins=(False,) * 3, rows=("....",) * 3, seed=0)


class Case:
    """An estimator, and the rows that it is given."""

    def __init__(self, estimator: Callable[..., Tensor], definition: Definition | None, cuts: bool):
        self.estimator, self.definition, self.cuts = estimator, definition, cuts

    def __call__(self, rows: "Rows") -> Tensor:
        return self.estimator(*(rows if self.cuts else rows[:3]))


class Rows(NamedTuple):
    """The destination rows of a trajectory."""

    reward: Tensor
    discount: Tensor
    value: Tensor
    cut: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Rows":
        """A function of every number; the flags stay."""
        reward, discount, value = (function(x) for x in self[:3])
        return Rows(reward, discount, value, self.cut)


def destination(trajectory: Trajectory, other: int = 0) -> Rows:
    """Random numbers: discounts between 0.5 and 1, and 0 at an end."""
    reward, value = (trajectory.normal(key=key + 10 * other) for key in (1, 2))
    alive = 0.5 + 0.5 * trajectory.normal(key=3 + 10 * other).sigmoid()
    cut = torch.tensor([[letter != "." for letter in row] for row in trajectory.rows])
    return Rows(reward, torch.where(trajectory.is_terminal, 0.0, alive), value, cut)


def some(case: Case, time: tuple[int, int] = (1, 6)) -> Any:
    """Trajectories, with ends that are cuts if the estimator knows those, else with terminals."""
    return trajectories(time=time, ends=".ALT" if case.cuts else ".T")


@promise("shape", "One return for each row, of the dtype of the rewards.", "the last lines")
def shape(case: Case) -> None:
    for dtype in (torch.float32, torch.float64):
        rows = destination(PLAIN).map(lambda x, to=dtype: x.to(to))
        out = case(rows)
        what = f"rows of shape {tuple(rows.reward.shape)} and {dtype} gave {tuple(out.shape)}"
        expect(out.shape == rows.reward.shape and out.dtype == dtype, f"{what} of {out.dtype}")


@promise(
    "consistent-values",
    "Where values already fit the rewards, v[t-1] = r[t] + γ[t] v[t], the returns are the values.",
    f"{ROWS}; and what closes the sum: the last value",
)
def consistent_values(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        rows = destination(trajectory)
        before = torch.cat([trajectory.normal(key=9)[:, :1], rows.value[:, :-1]], 1)
        rows = rows._replace(reward=before - rows.discount * rows.value)
        expect_equal(case(rows), before, "values that fit the rewards were not returned")

    for_all(some(case), body)


@promise(
    "definition",
    "The returns are those of the definition, a loop over plain numbers.",
    "the recursion: its factors, and the row that each is taken from",
)
def is_its_definition(case: Case) -> None:
    if case.definition is None:
        raise NotApplicable("pass definition=..., a loop over lists, to have it tested")
    define = case.definition

    def body(trajectory: Trajectory) -> None:
        rows = destination(trajectory)
        told = [define(*(x.tolist() for x in row)) for row in zip(*rows, strict=True)]
        expect_equal(case(rows), torch.tensor(told), "the returns are not those of the definition")

    for_all(some(case), body)


@promise("batch", "Elements of a batch do not see each other.", "reshapes and transposes")
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
    """Change all rows after the first stop of each element; the returns up to it stay."""
    rows, other = destination(trajectory), destination(trajectory, 1)
    beyond = (stops.cumsum(1) - stops.int() > 0) & stops.any(1)[:, None]
    pairs = zip(rows[:3], other[:3], strict=True)
    reward, discount, value = (torch.where(beyond, b, a) for a, b in pairs)
    ours, theirs = case(Rows(reward, discount, value, rows.cut)), case(rows)
    what = f"a return changed with rows that come after {name}"
    expect_equal(ours[~beyond], theirs[~beyond], what, allowed=SAME)


@promise("ends", "At a discount of 0 the return is the reward: nothing follows.", ROWS)
def ends(case: Case) -> None:
    def body(trajectory: Trajectory) -> None:
        rows, terminal = destination(trajectory), trajectory.is_terminal
        what = "the return of a row with discount 0 is not its reward"
        expect_equal(case(rows)[terminal], rows.reward[terminal], what, allowed=SAME)
        nothing_beyond(case, trajectory, terminal, "an end")

    for_all(some(case), body)


@promise(
    "cuts",
    "Where an episode is cut without an end, the return bootstraps from the value of that row.",
    "the flag of a cut: λ is 0 there, the discount is not (a time limit is alive)",
)
def cuts(case: Case) -> None:
    if not case.cuts:
        raise NotApplicable("this estimator is given no cuts (cuts=True)")

    def body(trajectory: Trajectory) -> None:
        rows = destination(trajectory)
        told = rows.reward + rows.discount * rows.value
        what = "the return of a cut row is not reward + discount * value"
        expect_equal(case(rows)[rows.cut], told[rows.cut], what, allowed=1e-5)
        nothing_beyond(case, trajectory, rows.cut, "a cut")

    for_all(some(case), body)


@promise(
    "gradients",
    "Rewards and values that change a return have a gradient from it.",
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
            expect(bool(found.ne(0).any()), f"the returns have no gradient by the {name}")


@promise(
    "scales",
    "Rewards and values of another unit, 1e-30 to 1e30, give returns of that unit.",
    "constants that are added or clipped to",
)
def scales(case: Case) -> None:
    rows = destination(PLAIN)
    told = case(rows)
    for scale in (1e-30, 1e-6, 1e6, 1e30):
        ours = case(rows._replace(reward=rows.reward * scale, value=rows.value * scale)) / scale
        expect_equal(ours, told, f"returns of rewards times {scale} are not times {scale}")


@promise("float32", "Float32 agrees with float64.", "sums in a shorter dtype")
def precise(case: Case) -> None:
    rows = destination(Trajectory((False,) * 2, ("." * 64,) * 2, 0))
    what = "64 rows in float32 and in float64 differ"
    expect_equal(case(rows), case(rows.map(lambda x: x.double())), what, allowed=1e-5)


@promise("nan-stays", "NaN in one element stays there.", "sums over the batch axis")
def nan_stays(case: Case) -> None:
    rows = destination(PLAIN)
    reward = rows.reward.clone()
    reward[0, 1] = torch.nan
    try:
        ours = case(rows._replace(reward=reward))[1:]
    except ValueError:
        return
    expect_equal(ours, case(rows)[1:], "NaN in element 0 changed another", allowed=SAME)


@promise("leaves-inputs-alone", "Nothing is written into what is given.", "operations in place")
def leaves_inputs_alone(case: Case) -> None:
    given = destination(PLAIN)
    expect_untouched(lambda *rows: case(Rows(*rows)), given, "the rows that were given changed")


@promise("compiles", "One graph, with the values and gradients of eager mode.", "Python branches")
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

    All are of the destination rows (see `worldblocks.returns`). The promises hold for every
    estimator that bootstraps from values: λ-returns, n-step returns, and those that weigh policies
    where the policies are equal.

    Args:
        estimator: gives the return of each row; `cut` is bool, set where an episode is cut.
        definition: the same for lists of one element: a slow loop that is obviously right.
        cuts: whether the estimator knows cuts; else it is called without the last argument.
        only, skip: names of promises to test alone, or to leave out.

    Raises:
        BrokenPromise: names each promise that is broken, and explains how.
    """
    return promise.run(Case(estimator, definition, cuts), estimator, only, skip)
