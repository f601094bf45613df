import pytest
import torch
from replay_rows import equal, filled, identity, number, packed, row, row_of

from worldblocks.replay import SequenceReplay, Uniform

pytestmark = pytest.mark.usefixtures("every_storage")


def starts(batch, streams=3):
    return [divmod(which, streams) for which in batch.row[:, 0].tolist()]


def test_length_and_steps():
    # 24 // 3 = 8 windows of 5 + 1 rows are kept of each stream: 13 rows.
    lengths = [len(filled(rows)) for rows in (0, 5, 6, 7, 13, 14, 31)]
    assert lengths == [0, 0, 3, 6, 24, 24, 24]
    assert filled(31).steps == 93


def test_capacity_is_rounded_down_to_the_streams():
    assert len(filled(31, capacity=26)) == 24


def test_the_carry_is_of_the_row_before():
    batch = filled(31).sample(50)
    torch.testing.assert_close(number(batch.carry), batch.row[:, 0] - 3)


def test_without_context_a_window_starts_an_episode():
    batch = filled(31, context=0).sample(50)
    assert batch.carry is None
    assert batch.is_first[:, 0].all()
    assert not batch.is_first[:, 1:].any()


def test_with_context_a_window_starts_in_the_midst_of_an_episode():
    assert not filled(31).sample(50).is_first.any()


def test_rows_are_consecutive_and_belong_together():
    batch = filled(31).sample(50)
    assert (batch.row.diff(dim=1) == 3).all()
    torch.testing.assert_close(batch.obs["which"], batch.row)
    torch.testing.assert_close(batch.reward, batch.row.float())
    torch.testing.assert_close(batch.prev_action[..., 4], batch.row + 0.5)
    torch.testing.assert_close(batch.obs["image"][..., 3, 5, 0].long(), batch.row % 256)


def test_an_abandoned_episode_ends_before_the_next_begins():
    replay = SequenceReplay(capacity=9, streams=3, length=5, context=0)
    for time in range(6):
        first = torch.tensor([time == 0, time == 3, time == 5])
        replay.add(**row(time, 3, is_first=first))
    batch = replay.sample(3)  # rows 1-5 of each stream
    assert batch.is_last.int().tolist() == [[0] * 5, [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert not batch.is_terminal.any()


def test_the_queue_is_drawn_once_and_stays_available():
    replay = filled(14, capacity=99)
    assert replay.queued == 6
    assert starts(replay.sample(4)) == [(2, 0), (2, 1), (2, 2), (8, 0)]  # after the context row
    assert replay.queued == 2
    assert starts(replay.sample(4))[:2] == [(8, 1), (8, 2)]
    assert replay.queued == 0
    assert set(starts(replay.sample(500))) == {(t, s) for t in range(1, 10) for s in range(3)}


def test_windows_of_another_length_never_come_from_the_queue():
    replay = filled(12)
    batch = replay.sample(500, length=2)
    assert batch.reward.shape == (500, 2)
    assert set(starts(batch)) == {(t, s) for t in range(1, 11) for s in range(3)}
    assert replay.sample(2, length=11).reward.shape == (2, 11)
    assert replay.queued == 3


def test_streams_advance_at_their_own_pace():
    replay = filled(6, capacity=99)
    for time in range(6, 14):
        replay.add(**row_of(torch.tensor([time * 3 + 2])), streams=[2])
    assert replay.steps == 26
    assert len(replay) == 1 + 1 + 9
    assert replay.queued == 2  # windows of 6 rows: 1 to 6 and 7 to 12 of stream 2
    assert starts(replay.sample(2)) == [(2, 2), (8, 2)]
    assert set(starts(replay.sample(500))) == {(1, 0), (1, 1), *((t, 2) for t in range(1, 10))}
    assert replay.holds(13)
    assert not replay.holds(14)
    with pytest.raises(
        ValueError, match=r"15 rows \(one of them context\) .*: the longest stream has 14"
    ):
        replay.sample(1, length=14)
    rows = torch.tensor([[8, 38], [41, 11]])  # row 2 and 12 of stream 2, 13 and 3
    replay.write_back(rows, packed(rows + 100))
    with pytest.raises(ValueError, match="1 of 2 rows given to write_back were never added; pass"):
        replay.write_back(torch.tensor([3 * 5, 3 * 6]), packed(torch.tensor([1, 2])))


@pytest.mark.parametrize(
    "streams",
    [
        [0, 0],
        [-1, 0],
        [1, 3],
        torch.tensor([2, 2]),
        torch.tensor([True, False]),
        [0.5, 1.5],
        [[0], [1]],
    ],
)
def test_rows_of_streams_that_are_not_there(streams):
    which = torch.tensor([20, 21])
    for replay in (filled(0), filled(3)):
        match = r"got rows of the streams \[.*\]; this replay has the streams 0 to 2, .*mask\.non"
        with pytest.raises(ValueError, match=match):
            replay.add(**row_of(which), streams=streams)
        assert replay.steps in (0, 9)


def test_a_value_that_is_not_finite_in_a_row_of_some_streams():
    replay = filled(3)
    values = row_of(torch.tensor([11, 9]), reward=torch.tensor([0.0, torch.nan]))
    replay.add(**row_of(torch.tensor([9])), streams=[0])
    with pytest.raises(ValueError, match="reward of stream 0 holds nan at row 4; only finite rows"):
        replay.add(**values, streams=[2, 0])
    assert replay.steps == 10


def test_write_back_reaches_the_rows_it_came_from():
    replay = filled(31)
    batch = replay.sample(4)
    replay.write_back(batch.row, packed(batch.row + 1000))
    stored = replay.sample(500)
    before = stored.row[:, 0] - 3
    written = torch.isin(before, batch.row)
    assert written.any()
    assert not written.all()
    torch.testing.assert_close(number(stored.carry), before + 1000 * written)


def test_write_back_skips_evicted_rows():
    replay = filled(13)
    rows = torch.stack([identity(time, 3) for time in range(4)])
    for time in range(13, 15):
        replay.add(**row(time, 3))  # rows 0 and 1 make room for rows 13 and 14
    replay.write_back(rows, packed(rows + 1000))
    batch = replay.sample(500, length=1)
    before = batch.row[:, 0] - 3
    assert {time // 3 for time in before.tolist()} == set(range(2, 14))
    torch.testing.assert_close(number(batch.carry), before + 1000 * (before < 12))


def test_of_a_row_written_twice_the_last_carry_stays():
    replay = filled(6)
    rows = torch.tensor([[0, 1, 0], [2, 0, 1]])
    replay.write_back(rows, packed(torch.tensor([[10, 11, 12], [13, 14, 15]])))
    batch = replay.sample(50, length=5)
    carry = dict(zip(batch.row[:, 0].tolist(), number(batch.carry).tolist(), strict=True))
    assert carry == {3: 14, 4: 15, 5: 13}


def test_a_carry_may_be_a_single_tensor():
    replay = SequenceReplay(capacity=9, streams=3, length=2)
    for time in range(4):
        replay.add(**row(time, 3, carry=identity(time, 3)))
    batch = replay.sample(5)
    torch.testing.assert_close(batch.carry, batch.row[:, 0] - 3)
    replay.write_back(torch.tensor([0, 1, 2]), torch.tensor([70, 71, 72]))
    replay.write_back(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert {70, 71, 72} < set(replay.sample(50).carry.tolist())


def test_the_seed_decides_what_is_drawn():
    first, again, other = (filled(31, seed=seed).sample(20).row for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_batch_is_a_copy():
    replay = filled(13)
    replay.sample(40).obs["which"].fill_(-1)
    assert (replay.sample(40).obs["which"] >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"streams": 0}, "streams=0, length=5, context=1; streams and length must be at least 1"),
        ({"length": 0}, "streams=3, length=0, context=1; streams and length must be at least 1"),
        ({"context": 2}, "streams=3, length=5, context=2; .* context 0 or 1"),
        ({"capacity": 2}, "capacity=2 leaves some of 3 streams without a window; it counts window"),
    ],
)
def test_sizes_that_make_no_replay(wrong, match):
    with pytest.raises(ValueError, match=match):
        filled(0, **wrong)


def test_too_early():
    match = r"6 rows \(one of .*\) cannot be drawn yet: the longest stream has 4 rows; add 2 mo"
    with pytest.raises(ValueError, match=match):
        filled(4).sample(7)
    with pytest.raises(
        ValueError, match="windows of 5 rows cannot be drawn yet: the longest stream has 0"
    ):
        filled(0, context=0).sample(7)


def test_windows_that_never_fit():
    match = (
        r"windows of 14 rows \(one of them context\) cannot be .* keeps 13 rows per stream; use a"
    )
    with pytest.raises(ValueError, match=match):
        filled(31).sample(7, length=13)


@pytest.mark.parametrize(("size", "length"), [(0, 5), (7, 0)])
def test_windows_of_nothing(size, length):
    match = f"{size} windows of {length} rows cannot be drawn; both must be at least 1"
    with pytest.raises(ValueError, match=match):
        filled(31).sample(size, length=length)


@pytest.mark.parametrize("stray", [-1, 39])
def test_rows_that_were_never_added(stray):
    rows = torch.tensor([[stray, 38]])
    match = "1 of 2 rows given to write_back were never added; pass the `row` of a batch sampled"
    with pytest.raises(ValueError, match=match):
        filled(13).write_back(rows, packed(rows))
    with pytest.raises(ValueError, match="2 of 2 rows given to write_back were never added"):
        filled(0).write_back(rows.abs(), packed(rows))


def test_carries_unlike_the_stored_ones():
    replay = filled(13)
    carry = packed(torch.tensor([[1, 2], [3, 4]]))
    rows = torch.tensor([[1, 2], [3, 4]])
    match = r"carry 'deter' is float32\[2, 2, 7\]; here it must be bfloat16\[2, 2, 7\]"
    with pytest.raises(ValueError, match=match):
        replay.write_back(rows, carry._replace(deter=carry.deter.float()))
    with pytest.raises(ValueError, match=r"carry 'deter' is bfloat16\[2, 2, 7\]; here .*\[4, 7\]"):
        replay.write_back(rows.flatten(), carry)


def test_a_look_at_the_data_does_not_change_training():
    blind, seen = (
        filled(40, capacity=60, streams=2, length=4, selector=Uniform()) for _ in range(2)
    )
    for _ in range(3):
        equal(blind.sample(5), seen.sample(5))
        seen.sample(3, length=7)
    other = seen.sample(3, length=7)
    assert other.reward.shape == (3, 7)


def test_it_says_what_it_holds():
    replay = filled(9, capacity=60, streams=2, length=4)
    assert replay.holds(8)
    assert not replay.holds(9)  # and one row of context
    small = filled(40, capacity=4, streams=2, length=4)
    assert small.holds(5)
    assert not small.holds(6)
    assert not SequenceReplay(capacity=9, streams=2, length=4).holds(1)


def test_rows_of_no_replay_cannot_be_written_back():
    replay = filled(9, capacity=60, streams=2, length=4)
    with pytest.raises(
        ValueError, match="write_back needs rows from a replay, got a batch with row=None"
    ):
        replay.write_back(None, None)
