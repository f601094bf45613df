"""Promises about the choice of windows."""

from collections import Counter

import torch

from worldblocks.testing.promise import NotApplicable, Violation, for_all
from worldblocks.testing.promise.compare import expect
from worldblocks.testing.promise.statistics import ALARM, chi_squared
from worldblocks.testing.replay.case import STARTS, Case, Sizes, promise, row, sizes, uniform

FULL = Sizes(share=7, streams=2, length=3, context=0, rows=20, flags=0)
DRAWS = 8000


@promise(
    "keeps-what-it-says",
    "At any time, exactly as many windows can be drawn as the capacity allows.",
    f"{STARTS}; and the number of rows stored per stream",
)
def keeps_what_it_says(case: Case) -> None:
    def body(size: Sizes) -> None:
        replay = case.empty(size)
        for time in range(size.rows):
            replay.add(**row(size, time))
            starts = size._replace(rows=time + 1).starts
            what = f"after {time + 1} rows len() is {len(replay)}, expected {len(starts)} starts "
            what += f"in each of {size.streams} streams"
            expect(len(replay) == size.streams * len(starts), what)

    for_all(sizes(), body, share=0.5)


@promise("every-start", "Every stored window is drawn, including the oldest and newest.", STARTS)
def every_start(case: Case) -> None:
    def body(size: Sizes) -> None:
        kept = size.streams * len(size.starts)
        count = 40 * kept  # each is missed with probability e^-40
        which = uniform(case.filled(size), count).obs["which"][:, 0] - size.context * size.streams
        drawn = set(which.tolist())
        expected = {time * size.streams + s for time in size.starts for s in range(size.streams)}
        missing = sorted(expected - drawn)
        expect(not missing, f"of {kept} starts {missing} were not drawn in {count} draws")

    for_all(sizes(), body, share=0.5)


@promise(
    "draws-are-even",
    "All starts of all streams are drawn equally often (χ², one false alarm in a million).",
    "the distribution of starts, and of streams",
)
def draws_are_even(case: Case) -> None:
    for size in (FULL, FULL._replace(rows=8), FULL._replace(streams=3, context=1)):
        which = uniform(case.filled(size), DRAWS).obs["which"][:, 0]
        bins = size.streams * len(size.starts)
        first = size.oldest * size.streams + size.context * size.streams
        counts = torch.bincount(which - first, minlength=bins).double()
        chance = chi_squared(counts, torch.full((bins,), DRAWS / bins).double())
        if len(counts) != bins or not chance > ALARM:
            what = f"{DRAWS} draws of {bins} starts: {counts.int().tolist()}"
            even = (counts * bins / DRAWS - 1).abs().max().item()
            raise Violation(what, difference=even, example=size)


@promise(
    "draws-are-independent",
    "The windows of a batch are drawn independently.",
    "draws without replacement, or one draw used for two windows",
)
def draws_are_independent(case: Case) -> None:
    which = uniform(case.filled(FULL), DRAWS).obs["which"][:, 0]
    bins = FULL.streams * len(FULL.starts)
    equal = (which[1:] == which[:-1]).sum().double()
    mean = (DRAWS - 1) / bins
    counts, expected = (torch.stack([x, DRAWS - 1 - x]) for x in (equal, torch.tensor(mean)))
    if not chi_squared(counts, expected.double()) > ALARM:
        what = f"{int(equal)} of {DRAWS - 1} neighbours in a batch are equal, expected {mean:.0f}"
        raise Violation(what, example=FULL)


@promise(
    "seeds",
    "Replays with the same seed draw the same windows; another seed draws others.",
    "the source of the random numbers",
)
def seeds(case: Case) -> None:
    drawn = [uniform(case.filled(FULL, seed), 64).obs["which"] for seed in (0, 0, 1)]
    expect(torch.equal(drawn[0], drawn[1]), "the same seed drew other windows")
    expect(not torch.equal(drawn[0], drawn[2]), "another seed drew the same windows")


@promise(
    "queue-gives-each-once",
    "The online queue returns each stretch of new rows once, in order of arrival.",
    "the next entry of the queue, and the row at which a window is complete",
)
def queue_gives_each_once(case: Case) -> None:
    case.needs_queue()

    def body(size: Sizes) -> None:
        size = size._replace(share=40)
        replay, taken = case.empty(size), []
        for time in range(size.rows):
            replay.add(**row(size, time))
            while replay.queued:
                take = min(replay.queued, 1 + time % 2)
                which = replay.sample(take).obs["which"]
                taken += (which[:, 0] - size.context * size.streams).tolist()
                if len(taken) > 4 * size.rows * size.streams:
                    raise Violation("the queue never becomes empty")
        rows = Counter(
            (start // size.streams + k, start % size.streams)
            for start in taken
            for k in range(size.window)
        )
        twice = sorted(key for key, count in rows.items() if count > 1)
        expect(not twice, f"the queue returned rows (time, stream) {twice} twice")
        whole = (size.rows - 1) // size.window * size.window
        expected_rows = {(1 + t, s) for t in range(whole) for s in range(size.streams)}
        missing = sorted(expected_rows - set(rows))
        expect(not missing, f"the queue never returned rows (time, stream) {missing}")
        order = [start // size.streams for start in taken]
        expect(order == sorted(order), f"the queue returned windows in the order of rows {order}")

    for_all(sizes(), body)


@promise(
    "queue-comes-first",
    "A batch takes all queued windows before it draws others.",
    "the order of queue and draws in sample()",
)
def queue_comes_first(case: Case) -> None:
    case.needs_queue()
    size = Sizes(share=40, streams=2, length=3, context=0, rows=13, flags=0)
    replay = case.filled(size)
    queued = replay.queued
    if not queued:
        raise NotApplicable("the queue is empty after 13 rows")
    which = replay.sample(queued + 2).obs["which"][:, 0]
    taken = len(set(which[:queued].tolist()))
    expect(taken == queued, f"of {queued} queued windows a batch took {taken} first")
    expect(replay.queued == 0, f"{replay.queued} of {queued} windows are left in the queue")
