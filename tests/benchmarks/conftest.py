"""A worker whose adapter is a few lines, and contestants with made-up samples."""

from dataclasses import replace

import pytest
from benchmarks.interleave import Contestant, Outcome
from benchmarks.jobs import Job
from benchmarks.timing import Timed
from benchmarks.work import Work

ADAPTERS = """
import os, sys, time
from benchmarks.timing import Timed

def good(work, word="nothing"):
    print("a peer prints this while it is built")
    def step():
        print("and that while it runs")
    note = f"{word}, {work.batch} windows, {os.environ.get('MALLOC', '')}"
    return Timed(functions={"step": step}, flops={"step": 5}, parameters=7, note=note)

def lacking(work):
    import no_such_module

def broken(work):
    raise ValueError("no such size")

def dying(work):
    print("my last words", file=sys.stderr, flush=True)
    os._exit(3)

def slow(work):
    time.sleep(60)

def stumbling(work):
    calls = []
    def step():
        calls.append(1)
        if len(calls) > 4:
            os._exit(4)
    return Timed(functions={"step": step})
"""


@pytest.fixture
def fake(tmp_path):
    """A job whose adapter is a function of `ADAPTERS`."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "fake_adapters.py").write_text(ADAPTERS, encoding="utf-8")

    def make(function, **job):
        job = {"name": function, "work": Work(batch=3), "source": tmp_path} | job
        return Job(adapter=f"fake_adapters:{function}", **job)

    return make


@pytest.fixture
def contestant():
    """One with the given samples (milliseconds) in each round, CPU and wall alike."""

    def make(name, rounds, *, ours=False, case="step", flops=None, values=None, **known):
        job = Job(name=name, adapter="none:none", work=Work(), ours=ours)
        counted = {} if flops is None else {case: flops}
        facts = Timed(flops=counted, values=values or {}, **known).facts()
        seconds = [[sample / 1e3 for sample in one] for one in rounds]
        turns = {case: [{"cpu": one, "wall": one} for one in seconds]} if rounds else {}
        return Contestant(job, {**facts, "first_call": {case: 21.0}}, turns, 100.0)

    return make


@pytest.fixture
def fake_measure(contestant):
    """In place of `interleave.measure`: what `known(job)` gives is what the job measured.

    It is a dict of the arguments of `contestant`, or a sentence that says why it did not take part.
    """

    def make(known):
        def measure(jobs, **limits):
            outcome = Outcome([], {})
            for job in jobs:
                answer = known(job)
                if isinstance(answer, str):
                    outcome.skipped[job.name] = answer
                    continue
                one = contestant(job.name, **{"rounds": [], "ours": True, **answer})
                outcome.contestants.append(replace(one, job=job))
            return outcome

        return measure

    return make


META = {
    "date": "2026-01-02",
    "commit": "abc",
    "changed": False,
    "machine": "2 cores of a processor",
    "versions": {"python": "3.11"},
    "threads": 1,
    "environment": {},
    "rounds": 2,
    "command": "python -m benchmarks",
    "skipped": {},
}


@pytest.fixture
def meta():
    """Where made-up figures come from."""
    return {**META, "skipped": {}}
