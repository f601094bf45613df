import functools
import gc
import json
import threading
import time
from concurrent.futures import Future

import pytest
import torch
from replay_rows import equal, filled, number, packed, row

from worldblocks.replay import Prefetch, prefetch

Ahead = functools.partial(Prefetch, ahead=True)
SIZES = {"capacity": 24, "streams": 3, "length": 5}
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
    gather = prefetch.gather_rows

    def slowly(*args, **options):
        time.sleep(0.001)
        return gather(*args, **options)

    monkeypatch.setattr(prefetch, "gather_rows", slowly)


def lived(replay, batches, rows, start=None):
    """Add rows, sample batches and write carries back. Returns all batches."""
    sampled = []
    for k in range(replay.steps // 3 if start is None else start, rows):
        replay.add(**row(k, 3))
        for _ in range(2):
            batch = batches.sample()
            replay.write_back(batch.row, packed((batch.row + 7 * k) % 65536))
            sampled.append(batch)
    return sampled


def run(rows, executor=None, **options):
    replay = filled(8, **options)
    with Ahead(replay, 4) as batches:
        if executor:
            batches.close()
            batches._closed, batches._thread = False, executor
        return lived(replay, batches, rows)


def same(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        equal(one, other)


def test_the_first_batch_is_that_of_the_replay():
    with Ahead(filled(31), 7) as batches:
        equal(batches.sample(), filled(31).sample(7))


def test_batches_do_not_depend_on_the_thread(storage, slow):
    """Rows are evicted and carries written while it runs: 13 of 28 rows are kept."""
    ours = run(28, storage=storage)
    same(ours, run(28, Executor(late=False)))
    same(ours, run(28, Executor(late=True)))  # gathered on request


def test_on_a_cpu_a_batch_is_that_of_the_replay(storage):
    """To the bit, in the same order; windows drawn ahead elsewhere are not lost."""
    ours, theirs = filled(8, storage=storage), filled(8)
    with Prefetch(ours, 4) as batches:
        assert batches._ahead is None
        sampled = lived(ours, batches, 28)
        expected = []
        for k in range(8, 28):
            theirs.add(**row(k, 3))
            for _ in range(2):
                batch = theirs.sample(4)
                theirs.write_back(batch.row, packed((batch.row + 7 * k) % 65536))
                expected.append(batch)
        same(sampled, expected)
        assert ours._selector.state() == theirs._selector.state()
    with Ahead(ours, 4) as batches:
        batches.sample()
        following = ours._selector.ahead[1].tolist()
    with Prefetch(ours, 4) as batches:
        assert (batches.sample().row[:, 0] // 3 - 1).tolist() == following


def test_rows_and_carries_are_those_stored_at_that_moment():
    replay = filled(8)
    written = {}
    with Ahead(replay, 4) as batches:
        for k in range(8, 60):
            replay.add(**row(k, 3))
            batch = batches.sample()
            torch.testing.assert_close(batch.obs["which"], batch.row)
            assert int(batch.row.min()) // 3 - 1 >= k - 12  # of the window, the row of its carry
            before = (batch.row[:, 0] - 3).tolist()
            expected = torch.tensor([written.get(which, which) for which in before])
            torch.testing.assert_close(number(batch.carry), expected)
            replay.write_back(batch.row, packed(batch.row + 1000 + k))
            written |= {which: which + 1000 + k for which in batch.row.flatten().tolist()}


def test_experience_comes_one_batch_later_and_once():
    replay = filled(7, capacity=99)
    with Ahead(replay, 2) as batches:
        rows = [batches.sample().row[:, 0].tolist() for _ in range(2)]
        for k in range(7, 13):
            replay.add(**row(k, 3))
        late, *rest = [batches.sample().row[:, 0].tolist() for _ in range(3)]
    # Row 2 of streams 0, 1, 2, then row 8 of each; draws in between were not from the queue.
    assert [rows[0], rows[1][:1]] == [[6, 7], [8]]
    assert max(late) // 3 <= 2
    assert [rest[0], rest[1][:1]] == [[24, 25], [26]]


@pytest.mark.parametrize("stop", [8, 17])
def test_a_run_that_is_resumed_gets_the_same_batches(tmp_path, storage, slow, stop):
    """Saved by the replay, into a new process, with other timing."""
    straight = run(28)
    replay = filled(8, storage=storage)
    with Ahead(replay, 4) as batches:
        first = lived(replay, batches, stop)
        manifest = json.loads(json.dumps(replay.save(tmp_path)))
        same(first + lived(replay, batches, 28), straight)  # saving changes nothing
    other = filled(0, seed=5)
    with Ahead(other, 4) as batches:
        other.load(tmp_path, manifest)
        same(first + lived(other, batches, 28), straight)


def test_going_back_to_a_save(tmp_path):
    """Batches gathered from the earlier rows are not returned."""
    replay = filled(8)
    with Ahead(replay, 4) as batches:
        lived(replay, batches, 15)
        manifest = replay.save(tmp_path)
        first = lived(replay, batches, 30)
        replay.load(tmp_path, manifest)
        same(lived(replay, batches, 30), first)


def test_a_save_of_before_windows_were_drawn_ahead(tmp_path):
    replay = filled(31)
    manifest = replay.save(tmp_path)
    del manifest["ahead"]
    other = filled(0)
    other.load(tmp_path, manifest)
    equal(other.sample(9), replay.sample(9))


def test_looks_at_the_data_do_not_change_training():
    blind, seen = filled(31), filled(31)
    with Ahead(blind, 4) as one, Ahead(seen, 4) as other:
        for _ in range(4):
            equal(one.sample(), other.sample())
            seen.sample(3, length=7)


def test_a_batch_of_another_size_goes_on_with_the_windows_ahead(tmp_path):
    replay = filled(31)
    with Ahead(replay, 4) as batches:
        batches.sample()
        following = replay._selector.ahead[1].tolist()
    for size in (3, 9):
        with Ahead(replay, size) as batches:
            starts = (batches.sample().row[:, 0] // 3 - 1).tolist()
        assert starts[:3] == following[:3]
        assert len(starts) == size
        following = replay._selector.ahead[1].tolist()


def test_a_failure_of_the_thread_is_said_and_no_batch_is_lost(monkeypatch):
    expected = run(12)
    replay = filled(8)
    with Ahead(replay, 4) as batches:
        first = lived(replay, batches, 10)
        batches._ahead.batch.result()  # this one is well

        def fails(*args, **options):
            raise OSError("no such page")

        replay.add(**row(10, 3))
        with monkeypatch.context() as patch:
            patch.setattr(prefetch, "gather_rows", fails)
            first.append(batches.sample())
            match = r"gathered ahead \(OSError: no such page\); .* sample\(\) will try the same"
            for _ in range(2):
                with pytest.raises(RuntimeError, match=match):
                    batches.sample()
        replay.write_back(first[-1].row, packed((first[-1].row + 70) % 65536))
        first.append(batches.sample())
        replay.write_back(first[-1].row, packed((first[-1].row + 70) % 65536))
        same(first + lived(replay, batches, 12), expected)


def test_too_early():
    replay = filled(4)
    with Ahead(replay, 4) as batches:
        with pytest.raises(ValueError, match=r"windows of 6 rows .* cannot be drawn yet"):
            batches.sample()
        for k in range(4, 8):
            replay.add(**row(k, 3))
        equal(batches.sample(), filled(8).sample(4))


def test_the_thread_ends():
    def threads():
        return [t for t in threading.enumerate() if t.name.startswith("replay-prefetch")]

    before = len(threads())
    batches = Ahead(filled(31), 4)
    batches.sample()
    assert len(threads()) == before + 1
    batches.close()
    assert len(threads()) == before
    with pytest.raises(
        RuntimeError, match=r"sample\(\) was called on a closed Prefetch; create a new"
    ):
        batches.sample()
    batches.close()
    forgotten = Ahead(filled(31), 4)
    forgotten.sample()
    del forgotten
    gc.collect()
    for thread in threads()[before:]:
        thread.join(timeout=20)
    assert len(threads()) == before


@needs_cuda
def test_batches_arrive_on_the_device(storage):
    replay, twin = filled(8, storage=storage), filled(8)
    with Ahead(replay, 4, device="cuda") as batches, Ahead(twin, 4) as others:
        ours, theirs = lived(replay, batches, 28), lived(twin, others, 40)
    assert ours[0].obs["image"].is_cuda
    assert ours[0].carry.deter.is_cuda
    assert ours[0].row.device.type == "cpu"
    same([batch.to("cpu") for batch in ours], theirs)
