import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.replay.selectors import OnlineQueue, Selector, Uniform


def test_windows_of_the_queue_worked_out_by_hand():
    # Windows of 4 rows: 1-4, 5-8, 9-12. With rows 0 … 9, each of 3 streams has two complete ones.
    queue = OnlineQueue(streams=3, window=4)
    assert [queue.ready(count) for count in (0, 1, 4, 5, 8, 9, 10, 13)] == [0, 0, 0, 3, 3, 6, 6, 9]
    stream, start = queue.draw(5, oldest=0, count=10)
    assert (stream.tolist(), start.tolist()) == ([0, 1, 2, 0, 1], [1, 1, 1, 5, 5])
    stream, start = queue.draw(5, oldest=0, count=10)
    assert (stream.tolist(), start.tolist()) == ([2], [5])
    assert len(queue.draw(5, oldest=0, count=10)[0]) == 0


@pytest.mark.parametrize(("oldest", "first"), [(1, 1), (2, 5), (5, 5), (6, 9)])
def test_entries_whose_rows_are_gone_are_skipped(oldest, first):
    _, start = OnlineQueue(streams=3, window=4).draw(1, oldest, count=13)
    assert start.tolist() == [first]


@given(
    streams=st.integers(1, 3),
    window=st.integers(1, 5),
    spare=st.integers(0, 6),
    draws=st.lists(st.integers(0, 4), max_size=30),
)
def test_the_queue_equals_a_list_of_windows(streams, window, spare, draws):
    """Add one row, then draw; the list is maintained as in the reference."""
    queue, listed = OnlineQueue(streams, window), []
    for count, size in enumerate(draws, start=1):
        oldest = max(0, count - window - spare)
        start = count - window
        if start >= 1 and (start - 1) % window == 0:
            listed += [(stream, start) for stream in range(streams)]
        expected = []
        while listed and len(expected) < size:
            entry = listed.pop(0)
            expected += [entry] if entry[1] >= oldest else []
        drawn = queue.draw(size, oldest, count)
        assert list(zip(*map(np.ndarray.tolist, drawn), strict=True)) == expected


@pytest.mark.parametrize("window", [1, 4, 9])
def test_every_valid_start_is_equally_likely(window):
    """Chi-squared at a false-alarm rate of 0.1% (Wilson and Hilferty's quantile), fixed seed."""
    streams, oldest, count, size = 3, 5, 15, 12_000
    stream, start = Uniform(streams, seed=0).draw(size, window, oldest, count)
    starts = count - oldest - window + 1
    cells = np.bincount(stream * starts + start - oldest, minlength=streams * starts)
    assert start.min() >= oldest
    assert len(cells) == streams * starts
    freedom, expected = len(cells) - 1, size / len(cells)
    chi_squared = ((cells - expected) ** 2 / expected).sum()
    spread = 2 / (9 * freedom)
    assert chi_squared < freedom * (1 - spread + 3.0902 * spread**0.5) ** 3


def test_the_uniform_draw_depends_on_the_seed_only():
    first, again, other = (Uniform(3, seed).draw(50, 4, 5, 15) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_look_does_not_repeat_what_training_draws():
    selector = Selector(3, window=4, seed=1)
    drawn, looked = (one.draw(50, 4, 5, 15)[1] for one in (selector.uniform, selector.evaluation))
    assert not np.array_equal(drawn, looked)


def test_a_loaded_selector_has_whole_numbers_ahead_where_nothing_is():
    selector = Selector(3, window=4, seed=1)
    selector.load(selector.state())
    assert [part.dtype for part in selector.ahead] == [np.int64, np.int64]
