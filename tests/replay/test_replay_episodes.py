"""Episodes in and out, and a saved replay read into one of other sizes."""

import itertools
import json

import numpy as np
import pytest
import torch
from replay_rows import filled, number, packed, row, row_of

from worldblocks.replay import (
    Batch,
    MemoryMapped,
    OnDevice,
    OnlineFirst,
    SequenceReplay,
    Uniform,
)

pytestmark = pytest.mark.usefixtures("every_storage")


def episode(start, length, ends=True, **changes) -> Batch:
    """An episode whose rows are numbered from `start`."""
    place = torch.arange(length)
    flags = {"is_first": place == 0, "is_last": (place == length - 1) & ends}
    return Batch(**row_of(start + place, **flags | changes))


def abandoned() -> SequenceReplay:
    """Two streams: an episode that ended, one that was abandoned, and one that goes on."""
    replay = SequenceReplay(capacity=40, streams=2, length=3)
    for time in range(9):
        first, last = torch.tensor([time in (0, 4)] * 2), torch.tensor([time == 3, False])
        replay.add(**row(time, 2, is_first=first, is_last=last, is_terminal=last))
    return replay


def test_stored_rows_are_split_where_an_episode_begins():
    episodes = list(abandoned().episodes())
    rows = [found.obs["which"].tolist() for found in episodes]
    assert rows == [[0, 2, 4, 6], [8, 10, 12, 14, 16], [1, 3, 5, 7], [9, 11, 13, 15, 17]]
    last = [found.is_last.int().tolist() for found in episodes]
    assert last == [[0, 0, 0, 1], [0] * 5, [0, 0, 0, 1], [0] * 5]
    assert [bool(found.is_terminal.any()) for found in episodes] == [True, False, False, False]
    for found in episodes:
        assert torch.equal(found.row, found.obs["which"])
        assert torch.equal(number(found.carry), found.row)
        assert torch.equal(found.prev_action[:, 0], found.row + 0.5)
        assert found.obs["image"].shape == (len(found.row), 4, 6, 1)


def test_stored_rows_are_split_where_an_episode_ends():
    replay = SequenceReplay(capacity=40, streams=2, length=3)
    for time in range(6):
        first, last = torch.tensor([time == 4, False]), torch.tensor([time == 3, time == 5])
        replay.add(**row(time, 2, is_first=first, is_last=last))
    assert [len(found.reward) for found in replay.episodes()] == [4, 2, 6]
    assert SequenceReplay.from_episodes(replay.episodes(), length=3).steps == 12


def test_the_first_episode_may_have_lost_its_beginning():
    replay = filled(31)  # the 13 rows of a stream are 18 to 30
    found = list(replay.episodes())
    assert [episode.row[0].item() // 3 for episode in found] == [18, 18, 18]
    assert not found[0].is_first.any()
    again = SequenceReplay.from_episodes(found, length=5)
    assert [bool(episode.is_first[0]) for episode in again.episodes()] == [True] * 3


def test_episodes_are_read_before_rows_are_added():
    replay = filled(31)
    episodes = replay.episodes()
    assert len(next(episodes).reward) == 13
    replay.add(**row(31, 3))
    with pytest.raises(RuntimeError, match=r"were overwritten, .*: list\(replay\.episodes\(\)\)"):
        next(episodes)


def test_an_empty_replay_has_no_episodes():
    assert list(filled(0).episodes()) == []


def test_a_replay_of_recorded_episodes_draws_evenly_from_all_of_them():
    episodes = [episode(0, 4), episode(4, 7, ends=False), episode(11, 2)]
    replay = SequenceReplay.from_episodes((e for e in episodes), length=3)
    assert len(replay) == 13 - 3 + 1
    assert (replay.queued, replay.steps, replay.streams, replay.context) == (0, 13, 1, 0)
    batch = replay.sample(600)
    assert batch.carry is None
    counts = torch.bincount(batch.obs["which"][:, 0])
    assert len(counts) == 11
    assert counts.min() > 25  # of 55
    at = batch.obs["which"]
    assert torch.equal(batch.is_last[:, :2], (at == 3)[:, :2] | (at == 10)[:, :2])
    assert torch.equal(batch.is_first[:, 1:], ((at == 4) | (at == 11))[:, 1:])
    assert batch.is_first[:, 0].all()  # no carry to continue from


def test_a_selector_and_a_storage_of_ones_own(tmp_path):
    for storage in (MemoryMapped(tmp_path), OnDevice("cpu")):
        replay = SequenceReplay.from_episodes(
            [episode(0, 9)], length=3, selector=OnlineFirst(Uniform()), storage=storage
        )
        assert replay.sample(2).obs["which"].tolist() == [[1, 2, 3], [4, 5, 6]]
        assert replay.storage is storage


def test_episodes_of_a_data_set_then_rows_of_environments():
    replay = SequenceReplay(capacity=60, streams=2, length=3, context=0)
    for k in range(3):
        replay.add_episode(episode(10 * k, 4 + k))
    assert [len(e.reward) for e in replay.episodes()] == [4, 6, 5]  # to the shorter stream
    with pytest.raises(ValueError, match="row 10 of stream 0 is not is_first, but the row before"):
        replay.add(**row(50, 2))
    replay.add(**row(50, 2, is_first=torch.ones(2, dtype=torch.bool)))
    assert (replay.steps, len(replay)) == (17, 11 - 2 + 6 - 2)


@pytest.mark.parametrize("streams", [None, [1, 0], [1]])
@pytest.mark.parametrize("fill", ["rows", "some rows", "episodes", "loaded", "full"])
def test_a_row_after_the_last_one_begins_an_episode(fill, streams, tmp_path):
    """Of stream 1, whose episode has ended; nothing is added otherwise."""
    replay = SequenceReplay(capacity=2 if fill == "full" else 40, streams=2, length=1, context=0)
    for time in range(3):
        last = torch.tensor([False, time == 2])
        if fill == "some rows":
            for s in (0, 1):
                values = row_of(torch.tensor([2 * time + s]), is_last=last[[s]])
                replay.add(**values, streams=[s])
        elif fill != "episodes":
            replay.add(**row(time, 2, is_last=last))
    if fill == "episodes":
        for s in (0, 1):
            replay.add_episode(episode(10 * s, 3, ends=s == 1), stream=s)
    if fill == "loaded":
        saved = replay.save(tmp_path)
        replay = SequenceReplay(capacity=40, streams=2, length=1, context=0)
        replay.load(tmp_path, saved)
    chosen = streams or [0, 1]
    which = 6 + torch.tensor(chosen)
    wrong = r"row 3 of stream 1 is not is_first, but the row before it is is_last; .* not SAME_STEP"
    for first in (False, torch.tensor(chosen) == 0):
        given = row_of(which, is_first=torch.zeros(len(chosen)).bool() | first)
        with pytest.raises(ValueError, match=wrong):
            replay.add(**given, streams=streams)
        assert replay.steps == 6
    replay.add(**row_of(which, is_first=torch.tensor(chosen) == 1), streams=streams)
    later = torch.arange(8, 10)  # the new episode goes on
    replay.add(**row_of(later))
    assert replay.steps == 6 + len(chosen) + 2


def test_an_episode_continues_from_its_carries():
    replay = SequenceReplay(capacity=60, streams=1, length=3)
    replay.add_episode(episode(0, 4))
    replay.add_episode(episode(4, 5), stream=0)
    batch = replay.sample(200)
    assert torch.equal(number(batch.carry), batch.obs["which"][:, 0] - 1)
    with pytest.raises(ValueError, match=r"carry '.*' is missing; this replay stores \["):
        replay.add_episode(episode(9, 3, carry=None))
    with pytest.raises(ValueError, match="context=1 starts windows from stored carries, but carry"):
        SequenceReplay(capacity=60, streams=1, length=3).add_episode(episode(9, 3, carry=None))


def test_an_episode_longer_than_the_ring_keeps_its_end():
    replay = filled(1, capacity=24)  # 13 rows of each stream
    replay.add(**row(1, 3, is_last=torch.ones(3, dtype=torch.bool)))
    replay.add_episode(episode(100, 40), stream=1)
    assert [e.row.numel() for e in replay.episodes()] == [2, 13, 2]
    assert replay.sample(30).obs["which"][:, -1].max() == 139
    assert (replay.steps, len(replay)) == (46, 8)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (
            {"is_first": torch.tensor([1, 0, 1, 0]).bool()},
            "episode of 4 rows has is_first at row 2",
        ),
        (
            {"is_last": torch.tensor([0, 1, 0, 1]).bool()},
            "has is_last at row 1; only row 0 is `is_",
        ),
        ({"reward": torch.zeros(0)}, r"at least one row, got reward as float32\[0\]; add the epis"),
        ({"reward": torch.zeros(2, 4)}, r"the axes `time ...` .* reward as float32\[2, 4\]"),
        (
            {"is_first": np.zeros(4, bool)},
            "is_first as a NumPy array bool.*; .* by torch.from_numpy",
        ),
        (
            {"obs": {"image": torch.tensor(1), "which": torch.tensor(1)}},
            r"'image' is int64\[\]; he",
        ),
        (
            {"reward": torch.full((4,), torch.inf)},
            "reward of stream 0 holds inf at row 3; only fin",
        ),
        ({"prev_action": torch.zeros(4, 2)}, r"prev_action is float32\[4, 2\]; here it must be fl"),
    ],
)
def test_an_episode_that_cannot_be_added(wrong, match):
    replay = SequenceReplay(capacity=60, streams=1, length=3)
    replay.add_episode(episode(0, 3))
    with pytest.raises(ValueError, match=match):
        replay.add_episode(episode(0, 4, **wrong))
    assert replay.steps == 3


def test_an_episode_is_not_added_in_the_middle_of_another():
    replay = SequenceReplay(capacity=60, streams=2, length=3)
    replay.add_episode(episode(0, 3, ends=False))
    replay.add_episode(episode(3, 3, ends=False))
    replay.add_episode(episode(6, 3, ends=False))  # recorded ones may be abandoned
    replay.add(**row(5, 2, is_last=torch.tensor([True, False])))
    replay.add_episode(episode(20, 3), stream=0)
    match = r"stream 1, whose environment is in the middle of one \(row 3 is not is_last\); add rec"
    with pytest.raises(ValueError, match=match):
        replay.add_episode(episode(20, 3), stream=1)
    assert replay.steps == 14


@pytest.mark.parametrize("wrong", [{"episodes": episode(0, 4)}, {"streams": 2}])
def test_one_episode_or_more_streams(wrong):
    given = {"episodes": [episode(0, 4)], "length": 3} | wrong
    with pytest.raises(ValueError, match="from_episodes takes a list of episodes into one stream"):
        SequenceReplay.from_episodes(given.pop("episodes"), **given)


def test_there_is_no_stream_of_that_number():
    with pytest.raises(ValueError, match=r"streams \[3\]; this replay has the streams 0 to 2"):
        filled(0).add_episode(episode(0, 4), stream=3)


def test_no_episodes():
    with pytest.raises(ValueError, match="from_episodes got no episode; it needs at least one"):
        SequenceReplay.from_episodes([], length=3)


@pytest.mark.parametrize("length", [2, 4, 9])
@pytest.mark.parametrize("context", [None, 0])
def test_a_saved_replay_is_opened_with_other_sizes(tmp_path, length, context):
    replay = abandoned()
    for time in range(9, 12):
        replay.add(**row_of(torch.tensor([2 * time])), streams=[0])
    replay.write_back(torch.tensor([2, 6]), packed(torch.tensor([1002, 1006])))
    replay.sample(3)
    replay.save(str(tmp_path))
    other = SequenceReplay.open(str(tmp_path), length=length, context=context, seed=2)
    assert (other.length, other.context, other.queued) == (length, 1 if context is None else 0, 0)
    assert other.steps == replay.steps == 21
    assert len(other) == 21 - length - other.context + 1
    batch = other.sample(400)
    assert {*batch.obs["which"].flatten().tolist()} >= {*range(4, 18), 18, 20, 22}
    if other.context:
        stored = {which: which + 1000 * (which in (2, 6)) for which in range(24)}
        order = torch.cat([each.obs["which"] for each in other.episodes()]).tolist()
        before = dict(itertools.pairwise(reversed(order)))
        for which, carry in zip(
            batch.obs["which"][:, 0].tolist(), batch.carry.more[0], strict=True
        ):
            assert carry == stored[before[which]]
    episodes = zip(other.episodes(), replay.episodes(), strict=True)
    assert all(torch.equal(ours.reward, theirs.reward) for ours, theirs in episodes)


def test_an_opened_replay_takes_memory_for_the_stored_rows_only(tmp_path):
    filled(31).save(tmp_path)  # 13 rows of each of three streams are left
    other = SequenceReplay.open(tmp_path, length=3)
    assert (other.steps, other.capacity) == (39, 39)


def test_the_newest_save_that_was_completed_is_opened(tmp_path):
    replay = abandoned()
    replay.save(tmp_path)
    for time in range(9, 12):
        replay.add(**row(time, 2))
    replay.save(tmp_path)
    (tmp_path / "manifest-v000003.json").write_text('{"rows": [12')  # killed as it was written
    assert SequenceReplay.open(tmp_path, length=3).steps == 24
    manifest = json.loads((tmp_path / "manifest-v000001.json").read_text())
    older = SequenceReplay(capacity=40, streams=2, length=3)
    older.load(str(tmp_path), manifest)
    assert older.steps == 18


def test_a_folder_without_a_saved_replay(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no saved replay in .*<run>/checkpoint/replay"):
        SequenceReplay.open(tmp_path, length=3)
