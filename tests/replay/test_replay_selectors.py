import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recency import Recency
from replay_rows import filled, row, row_of

from worldblocks.replay import Batch, Drawn, OnlineFirst, SequenceReplay, Stored, Uniform
from worldblocks.testing import check_replay


def stored(oldest, count):
    return Stored(np.array(oldest), np.array(count))


def together(oldest, count, streams=3):
    return stored([oldest] * streams, [count] * streams)


class Nothing:
    """Completes a batch with windows that no test expects."""

    def draw(self, size, window, stored):
        return Drawn(np.full(size, -1), np.full(size, -1))


def taken(queue, size, window, stored):
    """The windows of a draw that are from the queue."""
    stream, start, _ = queue.draw(size, window, stored)
    return [pair for pair in zip(stream.tolist(), start.tolist(), strict=True) if pair[0] >= 0]


def test_windows_of_the_queue_worked_out_by_hand():
    # Windows of 4 rows: 1-4, 5-8, 9-12. With rows 0 … 9, each of 3 streams has two complete ones.
    queue = OnlineFirst(Nothing())
    waiting = [queue.waiting(4, together(0, count)).sum() for count in (0, 1, 4, 5, 8, 9, 10, 13)]
    assert waiting == [0, 0, 0, 3, 3, 6, 6, 9]
    assert taken(queue, 5, 4, together(0, 10)) == [(0, 1), (1, 1), (2, 1), (0, 5), (1, 5)]
    assert taken(queue, 5, 4, together(0, 10)) == [(2, 5)]
    assert taken(queue, 5, 4, together(0, 10)) == []


def test_streams_of_their_own_pace_worked_out_by_hand():
    # Complete windows of 4 rows: none, 1-4 and 5-8, 1-4; the first windows of streams come first.
    queue, rows = OnlineFirst(Nothing()), stored([0, 0, 0], [3, 9, 6])
    assert taken(queue, 2, 4, rows) == [(1, 1), (2, 1)]
    assert taken(queue, 9, 4, rows) == [(1, 5)]
    assert taken(queue, 9, 4, stored([0, 0, 0], [5, 9, 9])) == [(0, 1), (2, 5)]


@pytest.mark.parametrize(("oldest", "first"), [(1, 1), (2, 5), (5, 5), (6, 9)])
def test_windows_whose_rows_are_gone_are_skipped(oldest, first):
    [(_, start)] = taken(OnlineFirst(Nothing()), 1, 4, together(oldest, 13))
    assert start == first


@given(
    streams=st.integers(1, 3),
    window=st.integers(1, 5),
    spare=st.integers(0, 6),
    draws=st.lists(st.integers(0, 4), max_size=30),
)
def test_the_queue_equals_a_list_of_windows(streams, window, spare, draws):
    """Add one row, then draw; the list is maintained as in the reference."""
    queue, listed = OnlineFirst(Nothing()), []
    for count, size in enumerate(draws, start=1):
        oldest = max(0, count - window - spare)
        start = count - window
        if start >= 1 and (start - 1) % window == 0:
            listed += [(stream, start) for stream in range(streams)]
        expected = []
        while listed and len(expected) < size:
            entry = listed.pop(0)
            expected += [entry] if entry[1] >= oldest else []
        assert taken(queue, size, window, together(oldest, count, streams)) == expected


@pytest.mark.parametrize("window", [1, 4, 9])
@pytest.mark.parametrize("rows", [together(5, 15), stored([5, 0, 40], [15, 9, 52])])
def test_every_valid_start_is_equally_likely(window, rows):
    """Chi-squared at a false-alarm rate of 0.1% (Wilson and Hilferty's quantile), fixed seed."""
    size, starts = 12_000, rows.starts(window)
    stream, start, _ = Uniform(0).draw(size, window, rows)
    begins = np.concatenate([[0], starts.cumsum()])[:-1]
    assert (start >= rows.oldest[stream]).all()
    assert (start + window <= rows.count[stream]).all()
    cells = np.bincount(begins[stream] + start - rows.oldest[stream])
    assert len(cells) == starts.sum()
    freedom, expected = len(cells) - 1, size / len(cells)
    chi_squared = ((cells - expected) ** 2 / expected).sum()
    spread = 2 / (9 * freedom)
    assert chi_squared < freedom * (1 - spread + 3.0902 * spread**0.5) ** 3


def test_the_uniform_draw_depends_on_the_seed_only():
    first, again, other = (Uniform(seed).draw(50, 4, together(5, 15)) for seed in (1, 1, 2))
    assert np.array_equal(first.start, again.start)
    assert not np.array_equal(first.start, other.start)


def test_recent_windows_more_often_without_a_change_in_replay():
    selector = Recency(halflife=5, seed=0)
    replay = filled(90, capacity=300, streams=3, length=5, selector=selector)
    age = 89 - replay.sample(4000).row[:, -1] // 3  # of the last row of a window
    assert age.min() == 0
    assert age.float().mean() == pytest.approx(1 / (2**0.2 - 1), rel=0.05)


def recency():
    return Recency(halflife=5, seed=0)


@pytest.mark.parametrize("selector", [recency, lambda: OnlineFirst(recency())])
def test_an_own_selector_is_saved_with_the_replay(tmp_path, selector):
    replay = filled(20, selector=selector())
    replay.sample(3)
    manifest = json.loads(json.dumps(replay.save(tmp_path)))
    other = filled(0, selector=selector())
    other.load(tmp_path, manifest)
    assert other.sample(9).row.tolist() == replay.sample(9).row.tolist()


class Prioritized:
    """Windows in proportion to the priority of their first row, with importance weights."""

    def __init__(self, seed=0):
        self.generator, self.priority = np.random.default_rng(seed), {}
        self.gone = []

    def added(self, stream, row):
        first = max(self.priority.values(), default=1.0)
        self.priority |= dict.fromkeys(zip(stream.tolist(), row.tolist(), strict=True), first)

    def evicted(self, stream, row):
        self.gone += zip(stream.tolist(), row.tolist(), strict=True)
        for pair in zip(stream.tolist(), row.tolist(), strict=True):
            del self.priority[pair]

    def update(self, stream, row, value):
        self.priority |= dict(
            zip(zip(stream.tolist(), row.tolist(), strict=True), value.tolist(), strict=True)
        )

    def draw(self, size, window, stored):
        places = [p for p in self.priority if p[1] + window <= stored.count[p[0]]]
        share = np.array([self.priority[p] for p in places])
        share = share / share.sum()
        drawn = self.generator.choice(len(places), size, p=share)
        stream, start = np.array(places)[drawn].T
        return Drawn(stream, start, (1 / (len(places) * share[drawn])).astype(np.float32))


def test_a_prioritized_selector_hears_of_rows_and_of_values():
    selector = Prioritized()
    replay = filled(9, capacity=24, context=0, selector=selector)  # keeps 8 + 5 - 1 = 12 rows
    assert sorted(selector.priority) == [(s, t) for s in range(3) for t in range(9)]
    batch = replay.sample(7)
    assert batch.weight.shape == batch.reward.shape == (7, 5)
    assert batch.weight.unique().tolist() == [1.0]
    value = (batch.row == 3).float()  # row 1 of stream 0, and nothing else
    every = batch.row.new_tensor(range(27))
    replay.update(every, (every == 3).float() + 1e-6)
    again = replay.sample(20)
    assert again.row[:, 0].unique().tolist() == [3]
    # One of (9 - 4) * 3 = 15 starts has all the weight.
    assert again.weight.numpy() == pytest.approx(1 / 15, rel=1e-4)
    replay.update(batch.row[:, 0], value[:, 0])
    for time in range(9, 14):
        replay.add(**row(time, 3), streams=[0, 1, 2])
    assert sorted(selector.gone) == [(s, t) for s in range(3) for t in range(2)]
    replay.update(every, every.float())  # of rows 0 and 1 nothing is stored
    assert selector.priority[2, 8] == 26
    assert (0, 1) not in selector.priority


def test_a_selector_hears_of_stored_rows_only():
    selector = Prioritized()
    replay = filled(1, context=0, selector=selector)  # keeps 12 rows of each stream
    replay.add(**row(1, 3, is_last=torch.ones(3, dtype=torch.bool)))
    which = torch.arange(100, 140)
    place = torch.arange(40)
    flags = {"is_first": place == 0, "is_last": place == 39}
    replay.add_episode(Batch(**row_of(which, **flags)), stream=1)
    assert selector.gone == [(1, 0), (1, 1)]
    others = [(stream, time) for stream in (0, 2) for time in range(2)]
    assert sorted(selector.priority) == sorted(others + [(1, time) for time in range(30, 42)])
    assert replay.sample(9).row.shape == (9, 5)


def test_windows_without_a_weight_have_weight_one_beside_others():
    batch = filled(9, context=0, selector=OnlineFirst(Prioritized())).sample(5)
    assert batch.weight[:, 0].tolist() == [1.0] * 5
    weights = np.array([0.5, 0.25], np.float32)
    drawn = Drawn(np.array([0]), np.array([1])).followed_by(
        Drawn(np.array([1, 2]), np.array([3, 4]), weights)
    )
    assert drawn.weight.tolist() == [1.0, 0.5, 0.25]
    assert batch.last(2).weight.shape == (5, 2)


def test_the_online_queue_has_the_optional_methods_of_the_selector_behind_it():
    class Counted(OnlineFirst):
        counted = 0

        def added(self, stream, row):
            self.counted += len(row)
            self.then.added(stream, row)

    queue = Counted(Prioritized())
    replay = filled(9, context=0, selector=queue)
    assert queue.counted == len(queue.then.priority) == 27
    batch = replay.sample(2)
    replay.update(batch.row, batch.reward)
    assert not any(hasattr(OnlineFirst(Uniform()), name) for name in ("added", "update", "next"))


class Answers(Uniform):
    """A selector that gives one answer."""

    def __init__(self, *answer):
        self.answer = answer

    def draw(self, size, window, stored):
        return Drawn(*self.answer)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (([0, 1], [0, 0, 0]), r"Answers.draw was asked for 3 windows and gave 2 streams, 3 starts"),
        (([0, 1, 2], [0] * 3, [1.0]), r"2, 3 streams, 3 starts and 1 weights; it must give 3 of"),
        (([0, 1, 3], [0, 0, 0]), r"gave streams 0 to 3; this replay has streams 0 to 2"),
        (([0, 1, 2], [0, 4, 0]), r"window of 6 rows from row 4 of stream 1, which stores rows 0 t"),
        (([0, 1, 2], [0, -1, 0]), r"from row -1 of stream 1, which stores rows 0 to 8; a start is"),
        (
            ([0, 1, 2], [0.0, 0.5, 0.0]),
            r"draw gave starts as float64\[3\]; they must be integers, on",
        ),
        (([[0], [1], [2]], [0, 0, 0]), r"streams as int64\[3, 1\]; .* one for each of 3 windows"),
    ],
)
def test_what_a_selector_draws_is_checked(answer, match):
    match = match.replace("2, 3 streams", "gave 3 streams")
    with pytest.raises(ValueError, match=match):
        filled(9, selector=Answers(*answer)).sample(3)


@pytest.mark.parametrize("convert", [list, np.int32, torch.tensor])
def test_streams_and_starts_of_any_integers(convert):
    def converted(numbers):
        return list(numbers) if convert is list else convert(numbers)

    answer = converted([0, 1, 2]), converted([0, 2, 3])
    weights = np.array([0.1, 0.2, 0.3])
    batch = filled(9, selector=Answers(*answer, weights), prefetch=True).sample(3)
    assert batch.row[:, 0].tolist() == [3, 10, 14]
    assert batch.weight[:, 0].equal(torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("wrong", [Uniform, "uniform", lambda size, window, stored: None])
def test_what_is_no_selector(wrong):
    match = r"has the method draw\(size, window, stored\), got .*; give an object, such as wb"
    with pytest.raises(ValueError, match=match):
        filled(0, selector=wrong)


def test_a_state_that_is_not_json_is_refused(tmp_path):
    class Arrays(Uniform):
        def state(self):
            return np.zeros(3)

    match = r"the selector's state is not JSON \(Object of type ndarray .*; use x\.tolist\(\)"
    with pytest.raises(TypeError, match=match):
        filled(9, selector=Arrays()).save(tmp_path)


def test_a_state_of_another_selector_is_refused(tmp_path):
    replay = filled(9)
    manifest = replay.save(tmp_path)
    for other in (recency(), OnlineFirst(recency())):
        name = "OnlineFirst" if isinstance(other, Recency) else "Uniform"
        match = f"drawn from by {name}, and this one has Recency; load it into one with that"
        with pytest.raises(ValueError, match=match):
            filled(0, selector=other).load(tmp_path, manifest)


def test_values_need_a_selector_that_takes_them():
    batch = filled(9).sample(2)
    with pytest.raises(ValueError, match=r"OnlineFirst has no method update\(stream, row, value\)"):
        filled(9).update(batch.row, batch.reward)
    replay = filled(9, selector=Prioritized())
    with pytest.raises(ValueError, match=r"got values \[2\] for rows \[2, 5\]"):
        replay.update(batch.row, batch.reward[:, 0])
    with pytest.raises(
        ValueError, match="update needs rows from a replay, got a batch with row=No"
    ):
        replay.update(None, batch.reward)
    with pytest.raises(ValueError, match="10 of 10 rows given to update were never added; pass"):
        filled(0, selector=Prioritized()).update(batch.row, batch.reward)


def test_only_the_default_selector_has_a_queue():
    assert filled(9).queued == 3
    assert filled(9, selector=Uniform()).queued == SequenceReplay(**sizes()).queued == 0


def sizes():
    return {"capacity": 24, "streams": 3, "length": 5}


def test_the_promises_of_a_replay_without_a_queue():
    """They are tested with a selector of one's own, whatever its distribution."""

    def make(seed, **options):
        return SequenceReplay(**options, selector=Recency(halflife=5, seed=seed))

    uneven = ("every-start", "draws-are-even", "draws-are-independent")
    report = check_replay(make, skip=uneven)
    assert {"resumes", "writes-back", "windows-were-stored"} <= {*report.kept}
    assert report.skipped["queue-gives-each-once"] == "Recency has no online queue"
