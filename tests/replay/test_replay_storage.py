import errno
import os
import tempfile
from collections import deque

import numpy as np
import pytest
import torch
from replay_rows import equal, filled, packed, row

from worldblocks.replay import Memory, MemoryMapped, OnDevice, SequenceReplay
from worldblocks.replay.storage.recycled import Recycled

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")


def test_a_batch_does_not_depend_on_the_storage(storage):
    """Draws, write-back and eviction, compared with host memory."""
    ours, theirs = filled(11, storage=storage), filled(11)
    for time in range(11, 31):
        for replay in (ours, theirs):
            replay.add(**row(time, 3))
        batch = ours.sample(4)
        equal(batch, theirs.sample(4))
        for replay in (ours, theirs):
            replay.write_back(batch.row, packed(batch.row + time))


def test_a_replay_saved_from_one_storage_is_loaded_into_another(storage, tmp_path):
    ours = filled(31, storage=storage)
    manifest = ours.save(tmp_path)
    for other in (Memory(), MemoryMapped(tmp_path / "rows"), OnDevice("cpu")):
        theirs = filled(0, storage=other)
        theirs.load(tmp_path, manifest)
        equal(theirs.sample(20), filled(31).sample(20))


def test_room_for_more_than_the_machine_has_is_reserved_not_taken():
    """The presets keep 5 million rows of 45 kB; pages are allocated as rows arrive."""
    replay = SequenceReplay(capacity=5_000_000, streams=1, length=64)
    replay.add(**row(0, 1) | {"carry": torch.zeros(1, 8192)})
    assert replay.steps == 1


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a system that reserves")
def test_a_mapped_file_takes_its_disk_at_once(tmp_path, monkeypatch):
    """So that rows never hit a full disk, where the system would kill the process."""
    taken, reserve = [], os.posix_fallocate

    def reserved(file, start, size):
        reserve(file, start, size)
        taken.append((size, os.fstat(file).st_blocks * 512))

    monkeypatch.setattr(os, "posix_fallocate", reserved)
    filled(1, capacity=50_000, storage=MemoryMapped(tmp_path))
    [(size, blocks)] = taken
    assert blocks >= size > 50_000 * 24


def test_a_disk_that_fills_between_a_look_and_the_file(tmp_path, monkeypatch):
    """Two replays find the same free space: the second raises, and no process is killed."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    replay = SequenceReplay(capacity=24, streams=3, length=5, storage=MemoryMapped(tmp_path))
    with pytest.raises(
        MemoryError, match=r"more than the disk of .* can provide; use a smaller capacity"
    ):
        replay.add(**row(0, 3))


@pytest.mark.parametrize("place", ["file", "file/rows"])
def test_a_folder_that_is_none(tmp_path, place):
    (tmp_path / "file").touch()
    replay = SequenceReplay(
        capacity=24, streams=3, length=5, storage=MemoryMapped(tmp_path / place)
    )
    match = f"rows cannot be kept in '.*{place}': .*; use a folder that this process can create and"
    with pytest.raises(OSError, match=match):
        replay.add(**row(0, 3))
    assert replay.steps == 0


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    def refused(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(OSError, match=r"kept in '.*': Permission denied; use a folder that this"):
        filled(1, storage=MemoryMapped(tmp_path))


def test_an_error_of_a_device_is_not_one_of_room(monkeypatch):
    def broken(*_):
        raise RuntimeError("the device fell off the bus")

    monkeypatch.setattr(OnDevice, "reserve", broken)
    with pytest.raises(RuntimeError, match=r"^the device fell off the bus$"):
        filled(1, storage=OnDevice("cpu"))


@pytest.mark.parametrize("storage", ["disk", MemoryMapped, Memory])
def test_what_is_no_storage(storage):
    match = (
        r"got storage=.*(disk|Memory).*; it takes wb.replay.Memory\(\), MemoryMapped\(folder\) or"
    )
    with pytest.raises(ValueError, match=match):
        SequenceReplay(capacity=24, streams=3, length=5, storage=storage)


def test_a_folder_is_used_again_and_at_once(tmp_path):
    folder = tmp_path / "made" / "rows"
    first = filled(13, storage=MemoryMapped(folder))
    second = filled(31, storage=MemoryMapped(folder))
    assert list(folder.iterdir()) == []  # the files have no name
    equal(first.sample(9), filled(13).sample(9))
    equal(second.sample(9), filled(31).sample(9))


def test_more_than_there_is(storage):
    """More memory than any machine, disk or device has."""
    where = {
        Memory: "this machine",
        MemoryMapped: r"the disk of /.*rows\d+",
        OnDevice: "the device 'cpu'",
    }[type(storage)]
    replay = SequenceReplay(capacity=10**15, streams=2, length=3, storage=storage)
    match = rf"2 streams of 500000000000003 rows takes .* GB, more than {where} can provide; use a"
    with pytest.raises(MemoryError, match=match):
        replay.add(**row(0, 2))
    assert replay.steps == 0


@without_cuda
def test_pinned_memory_without_cuda(tmp_path):
    match = "pin_memory=True needs a CUDA device, and this machine has none; use pin_memory=False"
    with pytest.raises(ValueError, match=match):
        Memory(pin_memory=True)
    with pytest.raises(ValueError, match=match):
        MemoryMapped(tmp_path, pin_memory=True)


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_a_device_that_is_not_there(device):
    match = f"rows cannot be kept on the device '{device}': .*; this machine has 'cpu'"
    with pytest.raises(ValueError, match=match):
        OnDevice(device)


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_batches_for_a_device_that_is_not_there(device):
    match = f"batches cannot be moved to the device '{device}': .*; this machine has 'cpu'"
    with pytest.raises(ValueError, match=match):
        filled(0, device=device)


@needs_cuda
@pytest.mark.parametrize("kind", ["memory", "mapped"])
def test_batches_in_pinned_memory(tmp_path, kind):
    storage = {"memory": Memory(pin_memory=True), "mapped": MemoryMapped(tmp_path, True)}[kind]
    batch = filled(31, storage=storage).sample(9)
    assert batch.obs["image"].is_pinned()
    assert batch.carry.deter.is_pinned()
    equal(batch, filled(31).sample(9))


@needs_cuda
def test_batches_of_a_device_are_on_the_device():
    replay = filled(31, storage=OnDevice("cuda"))
    batch = replay.sample(9)
    assert batch.obs["image"].is_cuda
    assert batch.row.device.type == "cpu"
    carry = packed((batch.row + 1).cuda())
    replay.write_back(batch.row, carry)
    theirs = filled(31)
    theirs.sample(9)
    theirs.write_back(batch.row, packed(batch.row + 1))
    equal(replay.sample(9).to("cpu"), theirs.sample(9))


def test_memory_of_a_batch_is_used_again_when_nothing_refers_to_it():
    replay = SequenceReplay(capacity=400, streams=2, length=64, context=0)
    obs = {"image": torch.arange(2 * 48 * 48 * 3).reshape(2, 48, 48, 3).to(torch.uint8)}
    for time in range(80):
        replay.add(**row(time, 2, obs=obs))
    batch = replay.sample(3)
    place, kept = batch.obs["image"].data_ptr(), batch.obs["image"][1, 2].numpy()
    before = kept.copy()
    del batch
    others = [replay.sample(3).obs["image"] for _ in range(6)]
    assert place not in {other.data_ptr() for other in others}
    np.testing.assert_array_equal(kept, before)
    del kept
    assert place in {replay.sample(3).obs["image"].data_ptr() for _ in range(6)}


def test_memory_that_another_thread_takes_first_is_new():
    class Raced(deque):
        def popleft(self):
            raise IndexError

    recycled = Recycled()
    recycled._free = Raced([np.zeros(2**20, np.uint8)])
    assert recycled.empty((2**20,), torch.uint8).shape == (2**20,)


def test_bytes_of_a_device_are_reserved_there():
    assert OnDevice("meta").reserve(3).device.type == "meta"
