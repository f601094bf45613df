"""Environments in their own processes: the same rows, and recovery from failures."""

import functools
import gc
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from toy_environments import Faulty, Saved, Walk

import worldblocks as wb
from worldblocks.envs import EnvVector, Failure
from worldblocks.envs.vector import serve, worker

ACTIONS = torch.randn(40, 3, 7, generator=torch.Generator().manual_seed(0))
PUSHES = torch.rand(60, 2, 2, generator=torch.Generator().manual_seed(1))
BEGINS = "it begins a new episode"


def faulty(folder, count=2, saved=False, workers=True, **options):
    makers = [functools.partial(Faulty, folder, saved)] * count
    return EnvVector(makers, seed=11, workers=workers, **options)


@pytest.fixture
def fault(tmp_path):
    """Schedule faults, each to happen once, and cancel all others."""

    def say(*faults):
        for path in tmp_path.iterdir():
            path.unlink()
        for i, fault in enumerate(faults):
            (tmp_path / f"{i}-{fault.replace(' ', '-')}").touch()

    return say


def pids(vector):
    return [slot.handle.pid for slot in vector._slots]


def gone(pid, seconds=10.0):
    """Whether a process ends in time; a zombie counts as ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def same(one, other):
    pairs = zip((*one.obs.values(), *one[1:]), (*other.obs.values(), *other[1:]), strict=True)
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("kind", [Walk, Saved])
def test_workers_give_the_same_rows_and_states(kind):
    makers = [functools.partial(kind, length) for length in (2, 4, 5)]
    here, there = EnvVector(makers, seed=11), EnvVector(makers, seed=11, workers=True)
    assert same(here.reset(), there.reset())
    for t in range(12):
        there.send(ACTIONS[t])
        assert same(here.step(ACTIONS[t]), there.receive())
        assert here.finished == there.finished
    states = here.state_dict(), there.state_dict()
    assert str(states[0]) == str(states[1])
    # Each continues from the state of the other.
    rows = here.load_state_dict(states[1]), there.load_state_dict(states[0])
    assert same(*rows)
    for t in range(12, 24):
        assert same(here.step(ACTIONS[t]), there.step(ACTIONS[t]))
        assert here.finished == there.finished
    assert there.failures == []
    there.close()


def test_a_lost_state_in_a_worker_warns_too():
    vector = EnvVector([Saved] * 3, seed=1, workers=True)
    vector.reset()
    state = vector.state_dict()
    state["environments"][1] = b"lost"
    with pytest.warns(UserWarning, match=rf"environment 1 did not come back .*version\); {BEGINS}"):
        assert vector.load_state_dict(state).is_last.tolist() == [False, True, False]
    assert vector.step(ACTIONS[0]).is_first.tolist() == [False, True, False]
    assert vector.failures == []  # the worker did not fail
    vector.close()


def test_a_killed_worker_leaves_replay_as_it_should_be(tmp_path):
    vector = faulty(tmp_path)
    replay = wb.replay.SequenceReplay(capacity=60, streams=2, length=5, seed=0)
    rows, scores = vector.reset(), []
    for t in range(50):
        carry = torch.stack([torch.full((2,), float(t)), torch.arange(2.0)], -1)
        replay.add(**rows._asdict(), carry=carry)
        if t == 27:  # between two steps
            os.kill(pids(vector)[0], signal.SIGKILL)
        if t == 11:  # in the middle of one
            os.kill(pids(vector)[1], signal.SIGSTOP)
        vector.send(PUSHES[t])
        if t == 11:
            os.kill(pids(vector)[1], signal.SIGKILL)
        if t in (11, 27):
            with pytest.warns(RuntimeWarning, match="was killed by SIGKILL; it begins a new episo"):
                rows = vector.receive()
            env = int(t == 11)
            assert vector.failures == [Failure(env, t + 1, "was killed by SIGKILL", "")]
            assert rows.is_last[env]
        else:
            rows = vector.receive()
            assert vector.failures == []
        scores += vector.finished
    assert {episode.length for episode in scores} == {7}
    assert len(scores) == 10  # without the two that were cut
    vector.close()
    batch = replay.sample(200, length=replay.length)
    check_consistent(batch)
    ends = batch.is_last & (batch.obs["place"][..., 1] < 7)
    assert ends.any()


def check_consistent(batch):
    """Every row follows from the row before it, or repeats the last observation."""
    seed, clock, pushed = batch.obs["place"].unbind(-1)
    env, time = batch.row % 2, batch.row // 2
    assert torch.equal(batch.carry[:, 0], time[:, 0].float() - 1)  # of the row before row 0
    assert torch.equal(batch.carry[:, 1], env[:, 0].float())
    first, last = batch.is_first, batch.is_last
    cut = last & (clock < 7)
    assert not batch.is_terminal.any()
    assert not (first & last).any()
    torch.testing.assert_close(batch.prev_action, PUSHES[time - 1, env])
    going = ~first & ~cut
    torch.testing.assert_close(pushed[going], batch.prev_action[..., 0][going])
    torch.testing.assert_close(batch.reward[going], clock[going])
    assert (clock[first] == 0).all()
    assert (batch.reward[first | cut] == 0).all()
    assert torch.equal(first[:, 1:], last[:, :-1])
    inside = ~first[:, 1:]
    assert torch.equal(seed[:, 1:][inside], seed[:, :-1][inside])
    steps = (clock[:, 1:] - clock[:, :-1])[inside]
    assert torch.equal(steps, (~cut[:, 1:][inside]).float())
    assert (seed[:, 1:][~inside] != seed[:, :-1][~inside]).all()


@pytest.mark.parametrize(
    ("what", "said", "traced"),
    [
        ("raise", "raised ValueError: a joint broke in step", "in step\n    self.meet"),
        ("hang", "gave no answer within 0.3 seconds", ""),
        ("exit", "ended its process with exit code 3", ""),
    ],
)
def test_a_failing_step_ends_the_episode(tmp_path, fault, monkeypatch, what, said, traced):
    vector = faulty(tmp_path, count=1)
    vector.reset()
    for t in range(3):
        before = vector.step(PUSHES[t, :1])
    old = pids(vector)[0]
    fault(f"step {what}")
    monkeypatch.setattr(
        handle := vector._slots[0].handle, "_timeout", 0.3 if what == "hang" else 60.0
    )
    with pytest.warns(RuntimeWarning, match=f"^environment 0 at step 4 {said}; {BEGINS}$"):
        rows = vector.step(PUSHES[3, :1])
    handle._timeout = 60.0  # on a busy machine a process takes its time
    assert torch.equal(rows.obs["place"], before.obs["place"])
    assert [x.item() for x in rows[2:]] == [0.0, False, True, False]
    assert vector.finished == []
    assert vector.failures[0][:3] == (0, 4, said)
    assert traced in vector.failures[0].traceback
    assert gone(old)
    after = vector.step(PUSHES[4, :1])  # episode 1, with its usual seed
    assert [x.item() for x in after[2:]] == [0.0, True, False, False]
    assert vector.failures == []
    other = faulty(tmp_path, count=1, workers=False)
    other.reset()
    for t in range(8):
        first = other.step(PUSHES[t, :1])
    assert same(first._replace(prev_action=after.prev_action), after)
    assert same(other.step(PUSHES[0, :1]), vector.step(PUSHES[0, :1]))
    assert vector.stopped == ""
    vector.close()


def test_an_invalid_row_is_a_failure_of_its_environment(tmp_path, fault):
    vector = faulty(tmp_path, count=1)
    vector.reset()
    fault("step nan")
    said = "raised ValueError: the environment gave the reward nan; a reward is one finite float32"
    with pytest.warns(RuntimeWarning, match=f"environment 0 at step 1 {said}; {BEGINS}"):
        rows = vector.step(PUSHES[0, :1])
    assert [x.item() for x in rows[2:]] == [0.0, False, True, False]
    assert vector.step(PUSHES[0, :1]).is_first.all()
    vector.close()


def seed_of(episode, env=0, seed=11):
    return int(np.random.SeedSequence([seed, env, episode]).generate_state(1)[0]) % 10_000


def test_a_failing_reset_skips_the_episode(tmp_path, fault):
    fault("reset raise", "reset exit")
    vector = faulty(tmp_path, count=1)
    with pytest.warns(RuntimeWarning, match=f"{BEGINS}$") as said:
        rows = vector.reset()
    assert [str(one.message) for one in said] == [
        f"environment 0 at step 0 raised ValueError: a joint broke in reset; {BEGINS}",
        f"environment 0 at step 0 ended its process with exit code 3; {BEGINS}",
    ]
    assert [failure.what for failure in vector.failures][1] == "ended its process with exit code 3"
    assert rows.obs["place"].tolist() == [[seed_of(2), 0, 0]]
    assert [x.item() for x in rows[2:]] == [0.0, True, False, False]
    vector.close()


def test_a_factory_that_fails_again_and_again_stops_the_run(tmp_path, fault):
    vector = faulty(tmp_path, max_failures=3, window=20, saved=True)
    vector.reset()
    for t in range(6):
        rows = vector.step(PUSHES[t])
    fault("step kill", *["__init__ raise"] * 9)
    with pytest.warns(RuntimeWarning, match="was killed by SIGKILL"):
        rows = vector.step(PUSHES[6])
    [env] = [failure.env for failure in vector.failures]
    assert vector.stopped == ""
    with pytest.warns(RuntimeWarning, match="raised ValueError: a joint broke in __init__"):
        rows = vector.step(PUSHES[7])
    # Three more: the reset was repeated up to the limit. Its row is an episode of one row.
    assert len(vector.failures) == 3
    assert vector.stopped.startswith(
        f"environment {env} at step 8 raised ValueError: a joint broke in __init__: 4 failures in "
        "the last 20 steps, more than max_failures=3 allows; fix the environment, or "
        "raise max_failures.\n"
        "The last traceback:\nTraceback (most recent call last):\n"
    )
    assert vector.stopped.endswith("ValueError: a joint broke in __init__\n")
    assert (rows.is_first[env].item(), rows.is_last[env].item()) == (True, True)
    state = vector.state_dict()  # a run that stops here saves this
    assert state["environments"][env] is None
    with pytest.warns(
        RuntimeWarning, match="step 9 .* in __init__$"
    ):  # a caller that continues all the same
        rows = vector.step(PUSHES[8])
    assert (rows.is_first[env].item(), rows.is_last[env].item()) == (True, True)
    fault()
    again = faulty(tmp_path, saved=True)
    assert same(again.load_state_dict(state), vector.load_state_dict(state))
    assert (again.stopped, vector.stopped) == ("", "")  # earlier failures are forgotten
    assert again.step(PUSHES[9]).is_first[env]
    again.close()
    vector.close()


def test_failures_that_are_far_apart_do_not_stop_the_run(tmp_path, fault):
    vector = faulty(tmp_path, count=1, max_failures=1, window=5)
    vector.reset()
    for t, message in [(1, "step 2 raised"), (6, "step 7 raised"), (11, "step 12 raised")]:
        while vector._taken < t + 1:
            vector.step(PUSHES[t, :1])
        fault("step raise")
        with pytest.warns(RuntimeWarning, match=message):
            vector.step(PUSHES[t, :1])
        assert vector.stopped == ""
    fault("reset raise")
    with pytest.warns(RuntimeWarning, match="step 13 raised"):
        vector.step(PUSHES[0, :1])
    assert "2 failures in the last 5 steps" in vector.stopped
    vector.close()


def test_a_reset_that_cannot_be_done_raises(tmp_path, fault):
    fault(*["reset raise"] * 9)
    vector = faulty(tmp_path, count=1, max_failures=1)
    with pytest.raises(RuntimeError, match=r"2 failures in .*\n(.*\n)*.* joint broke in reset"):
        vector.reset()
    fault()
    assert vector.reset().is_first.all()
    vector.close()


def test_a_worker_lost_while_the_run_is_saved_or_restored(tmp_path, fault):
    vector = faulty(tmp_path, saved=True)
    vector.reset()
    vector.step(PUSHES[0])
    os.kill(pids(vector)[1], signal.SIGKILL)
    state = vector.state_dict()
    assert [place is None for place in state["environments"]] == [False, True]
    with pytest.warns(RuntimeWarning, match="environment 1 at step 2 was killed by SIGKILL"):
        vector.step(PUSHES[1])
    vector.state_dict()  # environment 1 is in no episode: no request is sent
    fault("set_state raise")
    with pytest.warns(UserWarning, match=BEGINS) as said:
        rows = vector.load_state_dict(state)
    assert [str(one.message) for one in said] == [
        "environment 0 raised ValueError: a joint broke in set_state while it was brought back; "
        + BEGINS,
        f"environment 1 had failed when this was saved; {BEGINS}",
    ]
    assert rows.is_last.tolist() == [True, True]
    assert [failure.env for failure in vector.failures] == [0]
    assert vector.step(PUSHES[2]).is_first.tolist() == [True, True]
    vector.close()


def test_an_environment_that_cannot_be_built_raises_at_once(tmp_path, fault):
    fault("__init__ raise")
    message = r"environment \d could not be built in a worker: it raised ValueError: a joint"
    with pytest.raises(RuntimeError, match=rf"{message} broke in __init__\nTraceback (.*\n)*"):
        faulty(tmp_path)
    fault("__init__ exit")
    message = r"it ended its process with exit code 3\nWhat it printed is above. Where a function"
    with pytest.raises(RuntimeError, match=message):
        faulty(tmp_path, count=1)


def test_factories_that_a_worker_cannot_import(monkeypatch):
    with pytest.raises(ValueError, match=r"environment 1 is <toy.*, and workers build their own"):
        EnvVector([Walk, Walk()], seed=0, workers=True)
    with pytest.raises(ValueError, match="environment 0 is 'pong'; give an Environment, or a cal"):
        EnvVector(["pong"], seed=0)  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"<lambda>.*cannot be sent to a worker .*partial"):
        EnvVector([lambda: Walk()], seed=0, workers=True)
    notebook = ModuleType("__main__")
    exec("def make(): return 1", notebook.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    with pytest.raises(ValueError, match=r"which is defined in a notebook .* workers=False"):
        EnvVector([notebook.make], seed=0, workers=True)
    with worker._without_script(True):
        assert not hasattr(sys.modules["__main__"], "make")
    assert sys.modules["__main__"] is notebook


def test_wrong_calls(tmp_path):
    vector = faulty(tmp_path)
    with pytest.raises(ValueError, match="max_failures=-1, window=0; it takes max_failures of 0"):
        faulty(tmp_path, max_failures=-1, window=0)
    vector.reset()
    with pytest.raises(ValueError, match=r"asked to receive before send\(action\); call that"):
        vector.receive()
    vector.send(PUSHES[0])
    for call in (vector.state_dict, vector.reset, lambda: vector.send(PUSHES[0])):
        with pytest.raises(ValueError, match=r"between send and receive; call receive\(\) first"):
            call()
    vector.receive()
    vector.close()


def test_closing_is_quick_and_leaves_nothing(tmp_path, fault):
    vector = faulty(tmp_path, count=3)
    vector.reset()
    fault("step hang", "close raise")
    vector.send(PUSHES[0].repeat(2, 1)[:3])
    processes, begin = pids(vector), time.monotonic()
    vector.close()
    vector.close()
    assert time.monotonic() - begin < 20
    assert all(map(gone, processes))
    with pytest.warns(RuntimeWarning, match="at step 1 was closed"):
        vector.receive()
    assert pids(vector) == [None] * 3
    vector = faulty(tmp_path)
    processes = pids(vector)
    del vector
    gc.collect()
    assert all(map(gone, processes))


def held_run(pipe, folder):
    """A run in its own session, which the test interrupts and kills."""
    os.setsid()
    vector = faulty(folder)
    vector.reset()
    with wb.run.Interrupt() as interrupt:
        pipe.send(pids(vector))
        while not interrupt.requested:
            time.sleep(0.01)
        pipe.send((interrupt.signal, vector.step(PUSHES[0]).obs["place"][:, 1].tolist()))
        time.sleep(60)


def test_workers_outlive_ctrl_c_and_not_the_run(tmp_path):
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    run = context.Process(target=held_run, args=(theirs, tmp_path))
    run.start()
    processes = ours.recv()
    for pid in processes:  # as a scheduler does
        os.kill(pid, signal.SIGTERM)
    os.killpg(run.pid, signal.SIGINT)
    assert ours.recv() == ("SIGINT", [1, 1])
    run.kill()
    run.join()
    assert all(map(gone, processes))


def deaf(seconds):
    serve._SPARE = 0.0
    serve._set_alarm(seconds)
    while True:
        sum(range(10**9))  # in C: no other thread and no handler can run


def test_a_worker_that_hangs_without_a_run_ends_itself():
    process = multiprocessing.get_context("forkserver").Process(target=deaf, args=(0.5,))
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGALRM


def test_workers_in_a_daemonic_process_are_refused(monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    with pytest.raises(ValueError, match=r"in a daemonic process, .*; take workers=False \(--no-w"):
        EnvVector([Walk], seed=0, workers=True)
    EnvVector([Walk], seed=0)
