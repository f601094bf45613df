"""A worker whose adapter is a few lines, and contestants with made-up samples."""

import pytest
from benchmarks.process import Job
from benchmarks.timing import Measured
from benchmarks.work import Work
from benchmarks.worker import Timed

from benchmarks import ROOT

ADAPTERS = """
import os, sys, time
from benchmarks.worker import Timed

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
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")

    def make(function, **job):
        job = {"name": function, "work": Work(batch=3), "source": tmp_path} | job
        return Job(adapter=f"fake_adapters:{function}", **job)

    return make


@pytest.fixture
def contestant():
    """One with the given samples (milliseconds) in each round, CPU and wall alike."""

    def make(name, rounds, *, case="step", flops=None, values=None, threads=1, **known):
        ours = name.startswith("worldblocks")
        job = Job(name=name, adapter="none:none", work=Work(threads=threads), ours=ours)
        counted = {} if flops is None else {case: flops}
        facts = Timed(flops=counted, values=values or {}, **known).facts()
        seconds = [[sample / 1e3 for sample in one] for one in rounds]
        turns = {case: [{"cpu": one, "wall": one} for one in seconds]} if rounds else {}
        return Measured(job, {**facts, "first_call": {case: 21.0}}, turns)

    return make


@pytest.fixture
def origin():
    """Where made-up figures come from."""
    return {
        "command": "python -m benchmarks",
        "commit": "abc",
        "changed": False,
        "machine": "2 cores of a processor",
        "date": "2026-01-02",
        "load": 0.5,
        "versions": {"python": "3.11"},
        "threads": 1,
        "environment": {},
        "rounds": 2,
        "skipped": {},
    }
