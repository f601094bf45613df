"""Promises about the rows of a window."""

from torch import Tensor

from worldblocks.testing.promise import for_all
from worldblocks.testing.promise.compare import expect, expect_equal
from worldblocks.testing.replay.case import Case, Sizes, flags, promise, row, sizes, uniform


def place_of(size: Sizes, which: Tensor) -> tuple[Tensor, Tensor]:
    """Time and stream of each row of a batch."""
    return which // size.streams, which % size.streams


@promise(
    "windows-were-stored",
    "A window consists of consecutive stored rows of one stream.",
    "the slots of the ring buffer: the write head and the wrap-around",
)
def windows_were_stored(case: Case) -> None:
    def body(size: Sizes) -> None:
        which = uniform(case.filled(size), 16).obs["which"]
        time, stream = place_of(size, which)
        expect(bool((stream == stream[:, :1]).all()), "a window mixes two streams")
        steps = time.diff(dim=1)
        expect(bool((steps == 1).all()), f"rows of a window are not consecutive: {time.tolist()}")
        starts = time[:, 0] - size.context
        known = (starts >= size.oldest) & (starts <= size.starts[-1])
        what = f"windows start at rows {starts.tolist()}, stored are the starts {list(size.starts)}"
        expect(bool(known.all()), what)

    for_all(sizes(), body)


@promise(
    "rows-stay-together",
    "Observations, action, reward and flags of a row are those that were added together.",
    "the index used for each field",
)
def rows_stay_together(case: Case) -> None:
    def body(size: Sizes) -> None:
        batch, marks = uniform(case.filled(size), 16), flags(size)
        which = batch.obs["which"]
        expect_equal(
            batch.obs["number"][..., 0], which.float(), "an observation belongs to another row"
        )
        what = "prev_action is not the action that led to its row"
        expect_equal(batch.prev_action[..., 0], which + 0.5, what)
        expect_equal(batch.reward, which.float(), "a reward belongs to another row")
        time, stream = place_of(size, which)
        terminal = marks.is_terminal[time, stream]
        what = "is_terminal belongs to another row, or is set at a time limit"
        expect_equal(batch.is_terminal, terminal, what)

    for_all(sizes(), body)


@promise(
    "starts-are-marked",
    "is_first is set where an episode begins, and on row 0 of a window without a carry.",
    "row 0 where context is 0",
)
def starts_are_marked(case: Case) -> None:
    def body(size: Sizes) -> None:
        batch, marks = uniform(case.filled(size), 16), flags(size)
        time, stream = place_of(size, batch.obs["which"])
        first = marks.is_first[time, stream]
        if not size.context:
            first[:, 0] = True
        expect_equal(batch.is_first, first, "is_first is not set where an episode begins")

    for_all(sizes(), body)


@promise(
    "ends-are-marked",
    "is_last is set where an episode ends, and on the row before an is_first in the window.",
    "abandoned episodes: their last row has no flag when it is added",
)
def ends_are_marked(case: Case) -> None:
    def body(size: Sizes) -> None:
        batch, marks = uniform(case.filled(size), 16), flags(size)
        time, stream = place_of(size, batch.obs["which"])
        last = marks.is_last[time, stream]
        last[:, :-1] |= marks.is_first[time, stream][:, 1:]
        expect_equal(batch.is_last, last, "is_last is not set where an episode ends")

    for_all(sizes(), body)


@promise(
    "has-its-own-memory",
    "Writing into added rows or sampled batches does not change the replay.",
    "views and references: copy rows when they are added and sampled",
)
def has_its_own_memory(case: Case) -> None:
    size = Sizes(share=6, streams=2, length=3, context=1, rows=14, flags=0)
    replay = case.empty(size)
    for time in range(size.rows):
        given = row(size, time)
        replay.add(**given)
        for tensor in (given["obs"]["number"], given["reward"], given["prev_action"]):
            tensor.fill_(-1.0)
    for _ in range(3):
        batch = uniform(replay, 32)
        which = batch.obs["which"].float()
        what = "a stored row changed with a tensor of the caller"
        expect_equal(batch.obs["number"][..., 0], which, what)
        expect_equal(batch.reward, which, what)
        for tensor in (batch.obs["number"], batch.reward, batch.prev_action):
            tensor.fill_(-2.0)
