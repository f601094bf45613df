"""Messages of a worker, and how the runner handles one that fails."""

import io
import json
import os

import pytest
from benchmarks.process import Worker, WorkerError
from benchmarks.timing import Outcome, measure, take_turns
from benchmarks.worker import Timed, serve, turn, warm_up


def answers(timed, *asked):
    out = io.StringIO()
    serve(timed, io.StringIO("".join(json.dumps(one) + "\n" for one in asked)), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_worker_says_what_it_knows_then_answers_turns():
    calls = []
    timed = Timed(functions={"step": lambda: calls.append(1)}, parameters=7, warm_calls=2)
    ready, answer = answers(timed, {"case": "step", "seconds": 0})
    assert ready["cases"] == ["step"]
    assert ready["ready"]["parameters"] == 7
    assert ready["ready"]["first_call"]["step"] >= 0
    assert len(answer["wall"]) == len(answer["cpu"]) == 1  # one sample at least
    assert len(calls) > 100  # of many calls, for a quick one cannot be timed alone


def test_a_time_is_for_one_of_the_things_that_a_call_does():
    clock = iter(range(1000))
    functions = {"one": int, "eight": int}
    timed = Timed(functions=functions, per={"eight": 8}, clock=lambda: next(clock), warm_calls=0)
    _, one, eight = answers(timed, *({"case": case, "seconds": 0} for case in functions))
    samples = [warm_up(int, 3)[1] for _ in range(3)]
    assert min(samples) > 1
    assert one["cpu"][0] > eight["cpu"][0] > 0


def test_a_turn_begins_with_a_call_that_is_not_timed_and_ends_in_time():
    calls = []
    samples = turn(lambda: calls.append(1), 5, 0.0, lambda: 0.0)
    assert (len(calls), len(samples["wall"])) == (1 + 5, 1)
    assert warm_up(lambda: calls.append(1), 0)[1] >= 1


def test_a_worker_process(fake, tmp_path):
    job = fake("good", arguments={"word": "hello"}, environment={"MALLOC": "own"})
    worker = Worker(job, tmp_path / "w", {"MALLOC": "shared", "X": "1"}, 60)
    try:
        message = worker.ready()
        assert message["ready"]["note"] == "hello, 3 windows, own"
        assert message["ready"]["flops"] == {"step": 5}
        answer = worker.turn("step", 0.0)
        assert answer["cpu"][0] > 0
    finally:
        worker.close()
    assert worker._process.returncode == 0


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            "lacking",
            r"^lacking: module 'no_such_module' is not installed for .*; pip install \"a>=1\"",
        ),
        ("broken", r"^broken: building it failed with ValueError: no such size$"),
        ("dying", r"^dying: its process ended with 3 while building; .* my last words$"),
    ],
)
def test_a_contestant_that_cannot_take_part_is_a_sentence(fake, tmp_path, function, words):
    worker = Worker(fake(function, requirement="a>=1"), tmp_path / "w", {}, 60)
    with pytest.raises(WorkerError, match=words):
        worker.ready()
    worker.close()


def test_one_that_never_answers_is_ended(fake, tmp_path):
    worker = Worker(fake("slow"), tmp_path / "w", {}, 0.2)
    with pytest.raises(WorkerError, match=r"slow: building took more than 0.2 s; a larger --time"):
        worker.ready()
    worker.close()
    assert worker._process.returncode < 0


def test_the_others_go_on_without_a_missing_peer(fake):
    said = []
    jobs = [fake("good"), fake("lacking", requirement="lacking>=2"), fake("stumbling")]
    given = {"rounds": 3, "seconds": 0.0, "shared": {}, "timeout": 60.0}
    outcome = measure(jobs, **given, say=said.append)
    assert [one.job.name for one in outcome.measured] == ["good", "stumbling"]
    assert [len(one.turns["step"]) for one in outcome.measured] == [3, 0]
    assert sorted(outcome.skipped) == ["lacking", "stumbling"]
    assert said[0].startswith("skipped: lacking: module 'no_such_module' is not installed")
    assert "ended with 4 while 'step'" in outcome.skipped["stumbling"]


def test_environment_of_a_worker(fake, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXTYPING_DISABLE", "1")
    plain = fake("good").variables({"A": "1"})
    assert "JAXTYPING_DISABLE" not in plain
    assert (plain["A"], plain["OMP_NUM_THREADS"]) == ("1", "1")
    assert plain["PYTHONPATH"] == os.pathsep.join(map(str, (tmp_path, tmp_path / "src")))
    own = fake("good", environment={"JAXTYPING_DISABLE": "1"}).variables({})
    assert own["JAXTYPING_DISABLE"] == "1"


class Noted:
    """A worker that records its turns and fails at one of them."""

    def __init__(self, job, log, fails_at=99):
        self.job, self.log, self.fails_at = job, log, fails_at

    def turn(self, case, seconds):
        self.log.append(f"{self.job.name}.{case}")
        if len(self.log) == self.fails_at:
            raise WorkerError(f"{self.job.name}: gone")
        return {"wall": [seconds], "cpu": [seconds]}


def test_contestants_take_turns_case_by_case(contestant):
    log, running = [], {}
    for name, cases in (
        ("worldblocks", ("add", "sample")),
        ("peer", ("add",)),
        ("other", ("sample",)),
    ):
        one = contestant(name, [])
        one.turns = {case: [] for case in cases}
        running[Noted(one.job, log)] = one
    everyone = list(running.values())
    take_turns(running, 2, 0.5, Outcome([], {}), print)
    one_round = ["worldblocks.add", "peer.add", "worldblocks.sample", "other.sample"]
    assert log == 2 * one_round
    assert everyone[1].turns == {"add": [{"wall": [0.5], "cpu": [0.5]}] * 2}


def test_one_that_fails_on_the_way_is_left_out(contestant):
    log, running, said = [], {}, []
    for name, fails_at in (("ours", 99), ("peer", 4)):
        one = contestant(name, [])
        one.turns = {"step": []}
        running[Noted(one.job, log, fails_at)] = one
    outcome = Outcome([], {})
    take_turns(running, 3, 0.5, outcome, said.append)
    assert log == ["ours.step", "peer.step"] * 2 + ["ours.step"]
    assert outcome.skipped == {"peer": "peer: gone"}
    assert said == ["skipped: peer: gone"]
