import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from worldblocks.replay.storage import rings as module
from worldblocks.replay.storage.host_rings import HostRings
from worldblocks.replay.storage.layout import Spec
from worldblocks.replay.storage.memory import Memory, OnDevice
from worldblocks.replay.storage.rings import Rings

FLAGS = {name: Spec(torch.bool, ()) for name in ("is_first", "is_last")}


def flagged(**values):
    """Rows `row ...` in the middle of an episode."""
    rows = len(next(iter(values.values())))
    return values | {name: torch.zeros(rows, dtype=torch.bool) for name in FLAGS}


@pytest.fixture(params=["torch", "NumPy"])
def rings(request):
    """Two streams of five rows; a row encodes its row number and stream."""

    def make(count):
        kind, storage = {"torch": (Rings, OnDevice("cpu")), "NumPy": (HostRings, Memory())}[
            request.param
        ]
        rings = kind({"x": Spec(torch.int64, (2,)), **FLAGS}, streams=2, rows=5, storage=storage)
        for time in range(count):
            rings.add(flagged(x=torch.tensor([[time, 0], [time, 1]])))
        return rings

    return make


def test_the_oldest_row_makes_room_for_the_next(rings):
    for count, oldest in {0: 0, 4: 0, 5: 0, 6: 1, 13: 8}.items():
        stored = rings(count).stored
        assert (stored.oldest.tolist(), stored.count.tolist()) == ([oldest] * 2, [count] * 2)


@pytest.mark.parametrize("count", [3, 5, 6, 10, 13])
def test_every_stored_row_is_found(rings, count):
    ring = rings(count)
    for time in range(ring.stored.oldest[0], count):
        for stream in range(2):
            slot = ring.slot(torch.tensor([stream]), torch.tensor([time]))
            assert ring.take("x", slot).tolist() == [[time, stream]]


def test_slots_worked_out_by_hand(rings):
    # Row 13 of a ring of 5 lies in slot 3; the second stream begins at slot 5.
    slot = rings(14).slot(torch.tensor([[0], [1]]), torch.tensor([[13, 14], [9, 10]]))
    assert slot.tolist() == [[3, 4], [9, 5]]


def test_of_equal_rows_the_last_stays_and_evicted_ones_are_skipped(rings):
    ring = rings(7)  # rows 2 … 6; rows 0 and 5 share a slot
    stream, time = torch.tensor([1, 0, 1, 0, 1]), torch.tensor([5, 6, 5, 6, 0])
    ring.put(stream, time, {"x": torch.arange(10).reshape(5, 2)})
    assert ring.take("x", torch.tensor([0, 1, 5, 6])).tolist() == [[5, 0], [6, 7], [4, 5], [6, 1]]


def test_rows_are_read_and_written_around_the_end(rings):
    ring = rings(8)  # rows 3 … 7; slots hold 5, 6, 7, 3, 4
    stream, time = np.repeat([0, 1], 4), np.tile([3, 4, 5, 6], 2)
    read = ring.read("x", stream, time)
    assert read.tolist() == [[t, s] for s in (0, 1) for t in (3, 4, 5, 6)]
    ring.put_rows(stream[5:], time[5:], {"x": -read[5:]})
    assert ring.tensors["x"][1, :, 0].tolist() == [-5, -6, 7, 3, -4]


def test_streams_advance_on_their_own(rings):
    ring = rings(4)
    for time in (4, 5):
        ring.add(flagged(x=torch.tensor([[time, 1]])), np.array([1]))
    assert ring.stored.oldest.tolist() == [0, 1]
    assert ring.tensors["x"][0, :4, 0].tolist() == [0, 1, 2, 3]
    assert ring.tensors["x"][1, :, 0].tolist() == [5, 1, 2, 3, 4]
    ring.add(flagged(x=torch.tensor([[6, 1], [4, 0]])), np.array([1, 0]))
    assert ring.tensors["x"][..., 0].tolist() == [[0, 1, 2, 3, 4], [5, 6, 2, 3, 4]]
    for time in (5, 6):  # the first stream catches up, and both advance together again
        ring.add(flagged(x=torch.tensor([[time, 0]])), np.array([0]))
    ring.add(flagged(x=torch.tensor([[7, 0], [7, 1]])))
    assert ring.tensors["x"][..., 0].tolist() == [[5, 6, 7, 3, 4]] * 2
    assert ring.count.tolist() == [8, 8]


def test_of_many_rows_the_last_stay(rings):
    ring = rings(4)
    values = torch.tensor([[time, 1] for time in range(4, 11)])
    ring.extend(1, len(values), flagged(x=values))
    assert ring.stored.oldest.tolist() == [0, 6]
    assert ring.tensors["x"][1, :, 0].tolist() == [10, 6, 7, 8, 9]


class Reads(TorchDispatchMode):
    """Counts values that are read on the host."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_row_on_the_device_is_waited_for_once(monkeypatch):
    """Regardless of how many values must be finite; none is copied to the host."""
    copied = []
    monkeypatch.setattr(module, "as_array", lambda value: copied.append(1) or value.numpy())
    names = ["reward", "obs/a", "obs/b"]
    layout = {name: Spec(torch.float32, (3,)) for name in names}
    rings = Rings(layout | FLAGS, streams=2, rows=5, storage=OnDevice("cpu"))
    values = flagged(**{name: torch.ones(2, 3) for name in names})
    with Reads() as reads:
        rings.add(values)
    assert (reads.count, copied) == (1, [])
    values["obs/a"][1, 2] = torch.inf
    with pytest.raises(
        ValueError, match="observation 'a' of stream 1 holds inf at row 1; only fin"
    ):
        rings.add(values)
    assert rings.count.tolist() == [1, 1]
