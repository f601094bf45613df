import gc
import json
import threading
import time
from concurrent.futures import Future

import pytest
import torch
from replay_rows import equal, filled, number, packed, row

from worldblocks.replay import gatherer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Never(Future):
    """Work that runs when its result is requested."""

    def __init__(self, work):
        super().__init__()
        self.work = work

    def result(self, timeout=None):
        return self.work()


class Executor:
    """Replaces the thread: work runs immediately, or as late as possible."""

    def __init__(self, late):
        self.late = late

    def submit(self, function, *args):
        if self.late:
            return Never(lambda: function(*args))
        done = Future()
        done.set_result(function(*args))
        return done

    def shutdown(self):
        pass


@pytest.fixture
def slow(monkeypatch):
    """Slow down the thread."""
    gather = gatherer.gather_rows

    def slowly(*args, **options):
        time.sleep(0.001)
        return gather(*args, **options)

    monkeypatch.setattr(gatherer, "gather_rows", slowly)


def ahead(rows=8, **options):
    """A replay that gathers its batches in a thread."""
    return filled(rows, prefetch=True, **options)


def windows_ahead(replay):
    return replay._sampler._ahead.start.tolist()


def lived(replay, rows, start=None):
    """Add rows, sample batches and write carries back. Returns all batches."""
    sampled = []
    for k in range(replay.steps // 3 if start is None else start, rows):
        replay.add(**row(k, 3))
        for _ in range(2):
            batch = replay.sample(4)
            replay.write_back(batch.row, packed((batch.row.to("cpu") + 7 * k) % 65536))
            sampled.append(batch)
    return sampled


def run(rows, executor=None, **options):
    replay = ahead(**options)
    if executor:
        replay._sampler._gatherer._thread = executor
    sampled = lived(replay, rows)
    replay.close()
    return sampled


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        equal(one, other)


def test_the_first_batch_is_that_of_a_replay_without_a_thread():
    equal(ahead(31).sample(7), filled(31).sample(7))


def test_batches_do_not_depend_on_the_thread(storage, slow):
    """Rows are evicted and carries written while it runs: 13 of 28 rows are kept."""
    ours = run(28, storage=storage)
    same(ours, run(28, Executor(late=False)))
    same(ours, run(28, Executor(late=True)))  # gathered on request


def test_on_a_cpu_nothing_is_gathered_ahead(storage):
    replay = filled(8, storage=storage)
    lived(replay, 28)
    assert windows_ahead(replay) == []
    assert replay._sampler._gatherer._thread is None


def test_rows_and_carries_are_those_stored_at_that_moment():
    replay, written = ahead(), {}
    for k in range(8, 60):
        replay.add(**row(k, 3))
        batch = replay.sample(4)
        torch.testing.assert_close(batch.obs["which"], batch.row)
        assert int(batch.row.min()) // 3 - 1 >= k - 12  # of the window, the row of its carry
        before = (batch.row[:, 0] - 3).tolist()
        expected = torch.tensor([written.get(which, which) for which in before])
        torch.testing.assert_close(number(batch.carry), expected)
        replay.write_back(batch.row, packed(batch.row + 1000 + k))
        written |= {which: which + 1000 + k for which in batch.row.flatten().tolist()}


def test_experience_comes_one_batch_later_and_once():
    replay = ahead(7, capacity=99)
    rows = [replay.sample(2).row[:, 0].tolist() for _ in range(2)]
    for k in range(7, 13):
        replay.add(**row(k, 3))
    late, *rest = [replay.sample(2).row[:, 0].tolist() for _ in range(3)]
    # Row 2 of streams 0, 1, 2, then row 8 of each; draws in between were not from the queue.
    assert [rows[0], rows[1][:1]] == [[6, 7], [8]]
    assert max(late) // 3 <= 2
    assert [rest[0], rest[1][:1]] == [[24, 25], [26]]


@pytest.mark.parametrize("stop", [8, 17])
def test_a_run_that_is_resumed_gets_the_same_batches(tmp_path, storage, slow, stop):
    """Saved by the replay, into a new process, with other timing."""
    straight = run(28)
    replay = ahead(storage=storage)
    first = lived(replay, stop)
    manifest = json.loads(json.dumps(replay.save(tmp_path)))
    same(first + lived(replay, 28), straight)  # saving changes nothing
    other = ahead(0, seed=5)
    other.load(tmp_path, manifest)
    same(first + lived(other, 28), straight)


def test_going_back_to_a_save(tmp_path):
    """Batches gathered from the earlier rows are not returned."""
    replay = ahead()
    lived(replay, 15)
    manifest = replay.save(tmp_path)
    first = lived(replay, 30)
    replay.load(tmp_path, manifest)
    same(lived(replay, 30), first)


def test_evaluation_does_not_change_training():
    blind, seen = ahead(31), ahead(31)
    for _ in range(4):
        equal(blind.sample(4), seen.sample(4))
        seen.sample(3, length=7)


def test_batches_of_other_sizes_go_on_with_the_windows_ahead():
    """None is lost, in whatever sizes they are taken."""
    sizes = (4, 3, 9, 1, 1, 6)
    replay, taken = ahead(31, capacity=99, seed=3), []
    for size in sizes:
        following = windows_ahead(replay)
        starts = (replay.sample(size).row[:, 0] // 3 - 1).tolist()
        assert starts[: len(following)] == following[:size]
        assert len(starts) == size
        taken += starts
    plain = filled(31, capacity=99, seed=3)
    assert taken[:15] == (plain.sample(15).row[:, 0] // 3 - 1).tolist()  # the queue has 15


def test_without_a_thread_the_windows_ahead_of_a_save_are_returned_first(tmp_path):
    replay = ahead(31)
    replay.sample(4)
    following = windows_ahead(replay)
    other = filled(0)
    other.load(tmp_path, replay.save(tmp_path))
    assert (other.sample(4).row[:, 0] // 3 - 1).tolist() == following
    assert windows_ahead(other) == []


def test_after_a_failure_of_the_thread_no_batch_is_lost(monkeypatch):
    expected = run(12)
    replay = ahead()
    first = lived(replay, 10)
    replay._sampler._gatherer._ahead.batch.result()  # this one is gathered already

    def fails(*args, **options):
        raise OSError("no such page")

    replay.add(**row(10, 3))
    with monkeypatch.context() as patch:
        patch.setattr(gatherer, "gather_rows", fails)
        first.append(replay.sample(4))
        match = r"gathered ahead \(OSError: no such page\); .* sample\(\) will try the same"
        with pytest.raises(RuntimeError, match=match):
            replay.sample(4)
        with pytest.raises(OSError, match="no such page"):  # gathered on request
            replay.sample(4)
    replay.write_back(first[-1].row, packed((first[-1].row + 70) % 65536))
    first.append(replay.sample(4))
    replay.write_back(first[-1].row, packed((first[-1].row + 70) % 65536))
    same(first + lived(replay, 12), expected)


def test_too_early():
    replay = ahead(4)
    with pytest.raises(ValueError, match=r"windows of 6 rows .* cannot be drawn yet"):
        replay.sample(4)
    for k in range(4, 8):
        replay.add(**row(k, 3))
    equal(replay.sample(4), filled(8).sample(4))


def test_the_thread_ends():
    def threads():
        return [t for t in threading.enumerate() if t.name.startswith("replay-prefetch")]

    gc.collect()
    for thread in threads():  # of replays that are gone
        thread.join(timeout=20)
    before = len(threads())
    replay = ahead(31)
    assert len(threads()) == before
    replay.sample(4)
    assert len(threads()) == before + 1
    replay.close()
    assert len(threads()) == before
    replay.close()
    replay.sample(4)  # begins another
    assert len(threads()) == before + 1
    del replay
    gc.collect()
    for thread in threads()[before:]:
        thread.join(timeout=20)
    assert len(threads()) == before


@needs_cuda
def test_batches_arrive_on_the_device(storage):
    replay = filled(8, storage=storage, device="cuda")
    ours, theirs = lived(replay, 28), lived(ahead(), 28)
    assert ours[0].obs["image"].is_cuda
    assert ours[0].carry.deter.is_cuda
    assert ours[0].row.device.type == "cpu"
    same([batch.to("cpu") for batch in ours], theirs)
