"""Promises about the rows of a window."""

from torch import Tensor

from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import expect, expect_equal
from worldblocks.testing.replay.case import Case, Sizes, flags, promise, row, sizes, uniform


def expected_windows(size: Sizes, which: Tensor) -> tuple[Tensor, Tensor]:
    """Time and stream of each row of a batch."""
    return which // size.streams, which % size.streams


@promise(
    "windows-were-stored",
    "A window is consecutive rows of one stream, all still kept.",
    "the slots of a ring: the write head, and where it goes around",
)
def windows_were_stored(case: Case) -> None:
    def body(size: Sizes) -> None:
        which = uniform(case.filled(size), 16).obs["which"]
        time, stream = expected_windows(size, which)
        expect(bool((stream == stream[:, :1]).all()), "a window goes over two streams")
        steps = time.diff(dim=1)
        expect(bool((steps == 1).all()), f"rows of a window are not consecutive: {time.tolist()}")
        starts = time[:, 0] - size.context
        known = (starts >= size.oldest) & (starts <= size.starts[-1])
        what = f"a window starts at row {starts.tolist()}, kept are starts {list(size.starts)}"
        expect(bool(known.all()), what)

    for_all(sizes(), body)


@promise(
    "rows-stay-together",
    "Observations, action, reward and flags of a row are those it was added with.",
    "the index that each name is gathered by",
)
def rows_stay_together(case: Case) -> None:
    def body(size: Sizes) -> None:
        batch, told = uniform(case.filled(size), 16), flags(size)
        which = batch.obs["which"]
        expect_equal(batch.obs["number"][..., 0], which.float(), "an observation is of another row")
        what = "prev_action is not the action that led to its row"
        expect_equal(batch.prev_action[..., 0], which + 0.5, what)
        expect_equal(batch.reward, which.float(), "a reward is of another row")
        time, stream = expected_windows(size, which)
        terminal = told.is_terminal[time, stream]
        what = "is_terminal is of another row, or set where there was a time limit"
        expect_equal(batch.is_terminal, terminal, what)

    for_all(sizes(), body)


@promise(
    "starts-are-marked",
    "is_first stands where an episode begins, and on row 0 of a window that has no carry.",
    "row 0 where context is 0",
)
def starts_are_marked(case: Case) -> None:
    def body(size: Sizes) -> None:
        batch, told = uniform(case.filled(size), 16), flags(size)
        time, stream = expected_windows(size, batch.obs["which"])
        first = told.is_first[time, stream]
        if not size.context:
            first[:, 0] = True
        expect_equal(batch.is_first, first, "is_first is not where an episode begins")

    for_all(sizes(), body)


@promise(
    "ends-are-marked",
    "is_last stands where an episode ends, and on the row before a first row in the window.",
    "episodes that were abandoned: nothing marks their last row when it is added",
)
def ends_are_marked(case: Case) -> None:
    def body(size: Sizes) -> None:
        batch, told = uniform(case.filled(size), 16), flags(size)
        time, stream = expected_windows(size, batch.obs["which"])
        last = told.is_last[time, stream]
        last[:, :-1] |= told.is_first[time, stream][:, 1:]
        expect_equal(batch.is_last, last, "is_last is not where an episode ends")

    for_all(sizes(), body)


@promise(
    "has-its-own-memory",
    "What was added and what was sampled may be written into: replay does not change.",
    "views and references: copy what comes in and what goes out",
)
def has_its_own_memory(case: Case) -> None:
    size = Sizes(share=6, streams=2, length=3, context=1, rows=14, flags=0)
    replay, told = case.empty(size), flags(size)
    for time in range(size.rows):
        given = row(size, time, told)
        replay.add(**given)
        for tensor in (given["obs"]["number"], given["reward"], given["prev_action"]):
            tensor.fill_(-1.0)
    for _ in range(3):
        batch = uniform(replay, 32)
        which = batch.obs["which"].float()
        what = "a stored row changed with the memory of the caller"
        expect_equal(batch.obs["number"][..., 0], which, what)
        expect_equal(batch.reward, which, what)
        for tensor in (batch.obs["number"], batch.reward, batch.prev_action):
            tensor.fill_(-2.0)
