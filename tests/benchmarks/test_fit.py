"""Memory of an update: counts, and what fits where."""

from dataclasses import replace

import pytest
import torch
from benchmarks.adapters import fit as adapter
from benchmarks.adapters.updates import assemble, without_autocast
from benchmarks.commands import fit, fit_tables
from benchmarks.commands.reports import FIT
from benchmarks.work import IMAGE, Work

import worldblocks as wb

TINY = Work(size="size1m", batch=2, length=3, horizon=1)
GIB = 2**30


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """A worker fixes its threads once; the tests share one process."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


def test_a_small_first_update_leaves_what_a_whole_one_leaves():
    """The count of the second of two updates is the same, at a fraction of the cost."""
    one = assemble(TINY)
    found = adapter.count(one, IMAGE[0])
    one.optimizer.zero_grad()
    one.optimizer.state.clear()
    whole = wb.run.count_memory(lambda: (one.step(), one.step()), one.agent, one.rows).peak
    batch_of_the_first = 2 * IMAGE[0] ** 2 * 3
    assert found == pytest.approx(whole, abs=2 * batch_of_the_first)


def test_counts_of_an_agent_at_several_points():
    values = adapter.counted(TINY, [[48, 2, 3, 2, 0]]).values
    assert list(values) == ["48 2 3 2 0"]
    assert values["48 2 3 2 0"] > 4 * 4 * 686_456 / 2  # smaller images, fewer parameters


def test_recomputing_takes_less():
    one = assemble(replace(TINY, length=9))
    plain, twice = (adapter.count(adapter.at(one, 64, 2, 9, 0, n), 64) for n in (0, 3))
    assert twice < plain


def test_autocast_is_itself_again():
    kept = torch.autocast
    with pytest.raises(KeyError), without_autocast():
        raise KeyError
    assert torch.autocast is kept


def test_measured_and_counted_are_values_of_one_worker(monkeypatch):
    monkeypatch.setattr(adapter, "peak_mib", lambda: 1e6)
    values = adapter.measured(TINY).values
    assert set(values) == {"grown", "counted cpu", "counted meta"}
    assert values["counted cpu"] == pytest.approx(values["counted meta"], rel=0.5)
    assert values["grown"] > 0


@pytest.fixture
def data(fake_measure, monkeypatch, meta):
    """One GiB for each window, half of it for each knob; the agent of 12M does not start."""

    def known(job):
        if job.adapter.endswith("measured"):
            return {"values": {"grown": 3e6, "counted cpu": 2e6, "counted meta": 2.5e6}}
        if job.work.size == "size12m":
            return "size12m: gone"
        values = {}
        for image, batch, length, *knobs in job.arguments["cases"]:
            size = GIB * batch * (image // 32) / 2 ** (sum(map(bool, knobs)) + 1)
            values[" ".join(map(str, (image, batch, length, *knobs)))] = size
        return {"values": values}

    monkeypatch.setattr(fit, "measure", fake_measure(known))
    options = fit.Fit(sizes="size1m,size12m")
    return {"_meta": meta, **fit.figures(options, meta["skipped"])}


def test_figures(data):
    assert data["counted/size1m/16x64/64"]["ours"] == 16 * GIB
    knobs = data["counted/size1m/16x64/64/imag_last 16/recompute 8"]
    assert (knobs["ours"], knobs["knobs"]) == (4 * GIB, "imag_last 16, recompute 8")
    assert data["measured/size1m/8x64"]["ratio"] == 1.5
    assert data["_meta"]["skipped"] == {"size12m": "size12m: gone"}


def test_the_page(data):
    text = FIT.render(data)
    assert "| GiB | 16 × 64 | 8 × 64 | 4 × 32 |\n| --- | --- | --- | --- |\n" in text
    assert "| size1m | 16 | 8 | 4 |" in text
    assert "| size1m | 16 | 8 (-50%) | 8 (-50%) | 4 (-75%) |" in text
    both = "16 × 64 (imag_last 16, recompute 8)"
    one = "16 × 64 (imag_last 16)"
    assert f"| size1m | {both} | {one} | {one} | 16 × 64 |" in text
    assert "| size1m | 4 × 32 | 4 × 32 | 8 × 64 | 8 × 64 |" in text  # 96 × 96, without knobs
    assert "| size1m, 8 × 64 | 3 | 2 | 2 | 1.5 |" in text


def test_nothing_fits_a_card_that_is_too_small():
    entry = {"batch": 4, "length": 32, "knobs": "", "ours": 9 * GIB}
    assert fit_tables.largest([entry], 8 * GIB) == "–"
    assert fit_tables.largest([entry], 9 * GIB) == "4 × 32"


def test_nothing_counted_is_a_sentence(fake_measure, monkeypatch):
    monkeypatch.setattr(fit, "measure", fake_measure(lambda job: "gone"))
    with pytest.raises(ValueError, match=r"nothing was counted: gone"):
        fit.figures(fit.Fit(sizes="size1m", quick=True), {})
