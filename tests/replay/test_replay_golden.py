"""The replay of the reference: length 5, capacity 30, two workers of 33 rows."""

import numpy as np
import pytest
import torch

from worldblocks.replay import SequenceReplay

STREAMS, ROWS = 2, 33
pytestmark = pytest.mark.usefixtures("every_storage")


@pytest.fixture
def recorded(golden):
    with np.load(golden / "l_replay.npz") as file:
        return {name: file[name] for name in file.files}


# A window of 5 rows, all of them returned, or the first used for its carry only.
@pytest.fixture(params=[0, 1], ids=["without context", "with context"])
def context(request):
    return request.param


@pytest.fixture
def replay(context, recorded):
    window, capacity = int(recorded["length"]), int(recorded["capacity"])
    return SequenceReplay(
        capacity=capacity, streams=STREAMS, length=window - context, context=context
    )


def fill(replay, recorded):
    """Length and length of the queue after each row."""
    lengths = []
    for time in range(ROWS):
        stream = torch.arange(STREAMS)
        replay.add(
            obs={"w": stream, "t": torch.full((STREAMS,), time)},
            prev_action=torch.zeros(STREAMS, 3),
            reward=torch.zeros(STREAMS),
            is_first=torch.from_numpy(recorded["in_first"][:, time]),
            is_last=torch.from_numpy(recorded["in_last"][:, time]),
            is_terminal=torch.zeros(STREAMS, dtype=torch.bool),
            carry=(100.0 * stream + time)[:, None].expand(-1, 2),
        )
        lengths.append((len(replay), replay.queued))
    return lengths


def windows(batch):
    """Windows recorded from the reference."""
    return {
        "w": batch.obs["w"].numpy(),
        "t": batch.obs["t"].numpy(),
        "is_first": batch.is_first.numpy(),
        "is_last": batch.is_last.numpy(),
    }


def test_lengths_after_each_row(replay, recorded):
    """Recorded after the row of each worker; ours are added together."""
    lengths, queue = zip(*fill(replay, recorded), strict=True)
    assert list(lengths) == recorded["len_after_each_add"][STREAMS - 1 :: STREAMS].tolist()
    assert list(queue) == recorded["queue_after_each_add"][STREAMS - 1 :: STREAMS].tolist()


def test_windows_of_the_queue(replay, context, recorded):
    """Row by row and in order, except the two at start 11, whose first rows we have evicted."""
    fill(replay, recorded)
    drawn = windows(replay.sample(6))
    assert replay.queued == 0
    for name, ours in drawn.items():
        np.testing.assert_array_equal(ours, recorded[f"online.{name}"][2:8, context:], name)


def test_uniform_windows(replay, context, recorded):
    """All starts, and the flags of every window drawn by the reference."""
    fill(replay, recorded)
    drawn = windows(replay.sample(1000, length=replay.length))
    starts = {(w, t - context) for w, t in zip(drawn["w"][:, 0], drawn["t"][:, 0], strict=True)}
    assert sorted(starts) == [tuple(start) for start in recorded["available_starts"]]
    for group, rows in (("uniform", slice(0, 8)), ("online", slice(2, 12))):
        theirs = {name: recorded[f"{group}.{name}"][rows, context:] for name in drawn}
        for k in range(len(theirs["w"])):
            same = (drawn["w"] == theirs["w"][k]).all(1) & (drawn["t"] == theirs["t"][k]).all(1)
            for name, ours in drawn.items():
                np.testing.assert_array_equal(ours[same][0], theirs[name][k], name)


def test_write_back(recorded):
    """To a window with three evicted rows: the carries before every row that can be drawn."""
    replay = SequenceReplay(capacity=30, streams=STREAMS, length=4)
    fill(replay, recorded)
    stream, start = recorded["writeback.window"].tolist()
    time = torch.arange(start, start + 5)[None]
    replay.write_back(time * STREAMS + stream, torch.full((1, 5, 2), -1.0))
    stored = {
        tuple(key): lat.tolist()
        for key, lat in zip(recorded["writeback.keys"], recorded["writeback.lat"], strict=True)
    }
    batch = replay.sample(1000, length=1)
    carries = {
        (w, t - 1): carry
        for w, t, carry in zip(
            batch.obs["w"][:, 0].tolist(),
            batch.obs["t"][:, 0].tolist(),
            batch.carry.tolist(),
            strict=True,
        )
    }
    # The carry of the last row precedes no row yet.
    assert carries == {key: lat for key, lat in stored.items() if key[1] < ROWS - 1}
