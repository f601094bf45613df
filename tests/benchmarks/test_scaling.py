"""One knob at a time, sizes that are affordable, and the page of it."""

from dataclasses import replace

import pytest
import torch
from benchmarks.adapters import scaling as adapter
from benchmarks.adapters.updates import assemble
from benchmarks.commands import scaling
from benchmarks.commands.reports import SCALING
from benchmarks.commands.sweeps import NAMES, Point, sweep
from benchmarks.work import SIZES, Work

BASE = Work(size="size1m", batch=4, length=32, horizon=15)
TINY = Work(size="size1m", batch=1, length=3, horizon=1)


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """A worker fixes its threads once; the tests share one process."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.parametrize("name", ["batch", "length", "horizon", "size"])
def test_a_sweep_turns_one_knob_around_the_base(name):
    one = sweep(name, BASE)
    works = {point.label: point.work for point in one.points}
    assert works[one.base] == BASE
    assert len(works) == len(one.points) > 3
    for work in works.values():
        assert replace(work, **{name: getattr(BASE, name)}) == BASE


def test_a_base_between_the_values_is_among_them():
    labels = [point.label for point in sweep("batch", replace(BASE, batch=6)).points]
    assert labels == ["1", "2", "4", "6", "8", "16"]
    assert [point.label for point in sweep("size", BASE, ["size12m"]).points] == [
        "size1m",
        "size12m",
    ]
    assert sweep("memory", BASE).points[-1].knobs == {"imag_last": 16, "recompute": 8}
    assert list(SIZES)[-1] == "size200m"
    assert SIZES["size200m"]["deter"] == 8192


def test_sizes_that_take_too_much_are_left_out_with_a_sentence(capsys):
    points = [Point(label=name, work=BASE) for name in ("small", "slow", "large", "next")]
    gib = 2**30
    values = {
        "small": {"flops": 1e9, "bytes": 1 * gib},
        "slow": {"flops": 300e9, "bytes": 1 * gib},
        "large": {"flops": 1e9, "bytes": 9 * gib},
        "next": {"flops": 1e9, "bytes": 1 * gib},
    }
    skipped = {}
    kept = scaling.within(points, values, 10e9, 4 * gib, scaling.Scaling(), skipped)
    assert [point.label for point in kept] == ["small", "next"]
    assert skipped["slow (size)"] == "about 30 s an update; --longest 31 includes it"
    assert skipped["large (size)"].startswith("about 12.1 GiB, beside the smaller ones, is more")
    assert "counted, not timed: slow: about 30 s" in capsys.readouterr().out


def test_memory_that_is_free(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 9 kB\nMemAvailable:   3072 kB\n", encoding="utf-8")
    assert scaling.available(info) == 3 * 2**20
    assert scaling.available(tmp_path / "none") == 8 * 2**30


def test_the_update_at_a_point_and_what_was_expected_of_it(monkeypatch):
    monkeypatch.setattr(adapter, "count", lambda one, image: image)  # see test_fit.py
    timed = adapter.update(TINY)
    timed.functions["step"]()
    assert (timed.parameters, timed.warm_calls) == (686_456, 0)
    expected = adapter.predicted(TINY).values
    assert expected["flops"] == pytest.approx(timed.flops["step"], rel=0.05)
    assert expected["bytes"] == 64


def test_knobs_are_options_of_the_recipe():
    one = assemble(TINY, imag_last=2, recompute=1)
    assert (one.cfg.imag_last, one.agent.rssm.recompute) == (2, 1)


def test_environments_are_stepped_and_acted_in():
    timed = adapter.environments(TINY, number=3, workers=False)
    assert timed.per == {"env": 3, "act": 3}
    assert timed.note == "CartPole-v1; in the process"
    assert timed.functions["env"]().reward.shape == (3,)
    assert timed.functions["act"]()[0].shape == (3, 2)


def test_time_of_workers_is_counted(tmp_path):
    """Two workers, one of them started by the other, with two threads in all."""
    for pid, children, nanoseconds in (("self", "7", 0), ("7", "8", 2e9), ("8", "", 3e9)):
        task = tmp_path / pid / "task" / "1"
        task.mkdir(parents=True)
        (task / "children").write_text(children, encoding="utf-8")
        (task / "schedstat").write_text(f"{nanoseconds:.0f} 0 0\n", encoding="utf-8")
    clock, alone = adapter.clock_of_all(tmp_path), adapter.clock_of_all(tmp_path / "none")
    assert clock() - alone() == pytest.approx(5.0, abs=0.1)


@pytest.fixture
def data(fake_measure, monkeypatch, meta):
    """Figures of a quick run in which one environment worker fails."""

    def known(job):
        if job.adapter.endswith("predicted"):
            large = job.name == "size12m"
            return {"values": {"flops": 1e9, "bytes": 2**50 if large else 2**20, "parameters": 7}}
        if job.adapter.endswith("environments"):
            return "4 with workers: gone" if job.name == "4 with workers" else {"rounds": [[1.0]]}
        work = job.work.batch * job.work.length
        return {"rounds": [[work], [2 * work]], "flops": work * 1e6, "parameters": 5}

    measure = fake_measure(known)

    def with_both_cases(jobs, **limits):
        outcome = measure(jobs, **limits)
        for one in outcome.contestants:
            if one.job.adapter.endswith("environments"):
                one.turns = dict.fromkeys(("env", "act"), one.turns["step"])
                one.facts["note"] = "CartPole-v1; somewhere"
        return outcome

    monkeypatch.setattr(scaling, "measure", with_both_cases)
    return {"_meta": meta, **scaling.figures(scaling.Scaling(quick=True), meta["skipped"])}


def test_figures_have_ratios_to_the_base(data):
    groups = {entry["group"] for name, entry in data.items() if name != "_meta"}
    assert groups == set(NAMES)
    assert data["batch/2"]["ratio"] == 0.5
    assert data["batch/4"]["is_base"]
    assert data["size/size1m"]["sizes"] == "size1m, 1 × 16, horizon 15"
    assert data["size/size1m"]["counted"] == {"flops": 10**9, "bytes": 2**20, "parameters": 7}
    large = data["size/size12m"]
    assert (large["ours"], large["ratio"], large["counted"]["bytes"]) == (None, None, 2**50)
    assert len(data["size/size1m"]["ours_rounds"]) == 2
    assert "memory/imag_last 16" in data
    assert {name for name in data if name.startswith("envs/4")} == {
        "envs/4 without workers/env",
        "envs/4 without workers/act",
    }
    skipped = data["_meta"]["skipped"]
    assert skipped.pop("size12m (size)").endswith("is more than --memory")
    assert skipped == {"4 with workers (envs)": "4 with workers: gone"}


def test_the_page(data):
    text = SCALING.render(data)
    assert "Did not take part: size12m (size), 4 with workers (envs)." in text
    assert f"\n| size12m | 7 |{' – |' * 9} 1 | 1,073,741,824 |\n" in text
    assert (
        "| **size1m** | 5 | 0.016 | 24 | 20 – 28 | 24 | 0.667 | 1 | 1 – 1 | 1 | 100 | 1 | 1 |"
        in text
    )
    assert "**Batch, around size1m, 4 × 32, horizon 15**" in text
    row = "| **4** | 5 | 0.128 | 192 | 160 – 224 | 192 | 0.667 | 1 | 1 – 1 | 1 | 100 |"
    assert row in text
    assert "\n| 2 | 5 | 0.064 | 96 | 80 – 112 | 96 | 0.667 | 0.5 | 0.5 – 0.5 | 0.5 | 100 |" in text
    assert "\n| 1 | no | 1,000 | 1,000 | 1,000 | 1,000 | 500 |" in text


def test_a_sweep_whose_base_failed_has_no_ratios(fake_measure, monkeypatch):
    def known(job):
        return "gone" if job.name == "4" else {"rounds": [[1.0]], "flops": 1e6, "parameters": 5}

    monkeypatch.setattr(scaling, "measure", fake_measure(known))
    found = scaling.of_sweep(sweep("batch", BASE, (2, 4)), scaling.Scaling(), {})
    assert found["batch/2"]["ratio"] is None
    [section] = SCALING.sections(found)
    assert section.tables[0].rows[0][-4:] == ["–", "–", "–", "100"]
