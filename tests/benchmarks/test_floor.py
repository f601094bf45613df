"""What is counted of an update, and the floor made of it."""

import pytest
import torch
from benchmarks.adapters import floor as adapter
from benchmarks.adapters import operations
from benchmarks.adapters.update_parts import parts
from benchmarks.adapters.updates import assemble
from benchmarks.commands import floor
from benchmarks.commands.reports import FLOOR
from benchmarks.work import Work

TINY = Work(size="size1m", batch=1, length=2, horizon=1)
RATES = {"matmul": 1e9, "convolution": 2e9, "copy": 1e9, "operation": 1e6}
COUNTED = {
    "matmul forward": 1e6,
    "matmul backward": 2e6,
    "convolution forward": 4e6,
    "convolution backward": 6e6,
    "bytes arithmetic": 9e6,
    "bytes other": 3e6,
    "operations": 500.0,
    "architecture": 20e6,
}


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """A worker fixes its threads once; the tests share one process."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.fixture(scope="module")
def tiny():
    return assemble(TINY)


def test_bytes_by_hand():
    a, b = torch.zeros(3, 4), torch.zeros(4, 5)
    with operations.Traffic() as counted:
        c = (a @ b).view(15)[:10]  # 12 + 20 + 15 numbers, then two views
        c.add_(1.0)  # reads 10, writes 10
        torch.empty(1000)
        d = torch.zeros(1).expand(7) + 0.0  # the 1 that zeros writes; reads 1, writes 7
    assert counted.arithmetic == 4 * (12 + 20 + 15)
    assert counted.other == 4 * (10 + 10 + 1 + 1 + 7)
    assert counted.calls == 4
    with operations.Traffic() as counted:
        torch.mul(a, 2.0, out=a)  # reads 12, writes 12
    assert counted.other == 4 * 24
    assert d.shape == (7,)


def test_flops_by_kind():
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 1, 1)
    a, b, c = torch.zeros(3, 4), torch.zeros(4, 5), torch.zeros(3, 5)

    def function():
        torch.nn.functional.conv2d(x, weight)
        torch.mm(a, b, out=c)
        c.addmm_(a, b)

    found = operations.by_kind(function)
    assert found == {"matmul": 2 * 2 * 3 * 4 * 5, "convolution": 2 * 2 * 64 * 3 * 5}


def test_an_update_is_counted(tiny):
    found = {**operations.arithmetic(tiny), **operations.traffic(tiny)}
    assert all(value > 0 for value in found.values())
    assert found["convolution backward"] > found["convolution forward"]
    assert set(found) == set(COUNTED) - {"architecture"}


def test_the_profile_names_operations(tiny, monkeypatch):
    monkeypatch.setattr(operations, "UPDATES", 1)
    found = operations.profile(tiny)
    names = [name for name in found if name.startswith("profile ")]
    assert len(names) == operations.TOP + 1
    assert sum(found[name] for name in names[1:]) <= found["profile total"]
    assert all(found[name.replace("profile", "calls", 1)] >= 1 for name in names[1:])


def test_the_parts_of_an_update_run(tiny):
    functions = parts(tiny)
    weight = tiny.agent.encoder.image.convs[0].weight
    for name, function in functions.items():
        tiny.optimizer.zero_grad()
        result = function()
        assert (weight.grad is not None) == (name in ("encoder both", "optimiser forward")), name
        assert result is None or name.endswith("forward")
    assert "imagination both" not in functions


def test_ceilings_say_how_much_they_do(monkeypatch):
    monkeypatch.setitem(adapter.MATRICES, "cpu", (5,))
    monkeypatch.setitem(adapter.CONVOLUTIONS, "cpu", ((2, 3, 4, 5),))
    monkeypatch.setitem(adapter.COPY, "cpu", 64)
    functions, amounts = adapter.ceilings("cpu", torch.float32)
    for function in functions.values():
        function()
    name = "amount convolution 2 × 4 × 4 × 3, 5 × 5"
    assert amounts["amount matmul 5"] == 250
    assert amounts[name] == 2 * 2 * 16 * 9 * 25
    assert amounts["amount copy"] == 128
    assert set(amounts) == {f"amount {name}" for name in functions}
    assert functions["copy"]().eq(1).all()


def test_the_floor_by_hand():
    found = floor.floor(COUNTED, RATES, measured=40.0)
    assert found["terms"] == {
        "matmul forward": 1.0,
        "matmul backward": 2.0,
        "convolution forward": 2.0,
        "convolution backward": 3.0,
        "bytes of other operations": 3.0,
    }
    assert (found["floor"], found["times_floor"], found["calls"]) == (11.0, 3.636, 0.5)
    assert found["utilisation"] == 0.5  # 20 MFLOP in 40 ms, of 1 GFLOP/s


@pytest.fixture
def measured(fake_measure):
    """A worker that measured everything, each case in 8 ms of CPU."""
    values = {**COUNTED, "amount matmul 8": 8e6, "amount matmul 9": 16e6, "amount copy": 8e6}
    values |= {"amount convolution a": 16e6, "amount operation": 1.0, "profile total": 10.0}
    values |= {"profile aten::mm": 4.0, "calls aten::mm": 30.0}
    names = ("encoder", "observe", "decoder", "heads", "actor, critic, imagination")
    cases = [f"{name} {way}" for name in names for way in ("forward", "both")]
    cases += ["imagination forward", "optimiser forward", "update"]
    cases += [name[7:] for name in values if name.startswith("amount ")]

    def known(job):
        return {"rounds": [[8.0]], "values": values, "parameters": 5}

    def measure(jobs, **limits):
        outcome = fake_measure(known)(jobs, **limits)
        for one in outcome.contestants:
            one.turns = dict.fromkeys(cases, one.turns["step"])
        return outcome

    return measure


def test_figures_and_page(measured, monkeypatch, meta):
    monkeypatch.setattr(floor, "measure", measured)
    data = {"_meta": meta, **floor.figures(floor.Floor(device="cpu"), {})}
    assert data["floor"]["rates"] == {
        "matmul": 2e9,
        "copy": 1e9,
        "convolution": 2e9,
        "operation": 125.0,
    }
    assert data["profile/aten::mm"] == {
        "group": "profile",
        "operation": "aten::mm",
        "unit": "ms",
        "ours": 4.0,
        "share": 0.4,
        "calls": 30,
    }
    text = FLOOR.render(data)
    assert "the update takes 8 ms, **0.842 times its floor** of 9.5 ms" in text
    assert "| convolution backward | 0.006 GFLOP | 2 GFLOP/s | 3 |" in text
    assert "| bytes of other operations | 0.003 GB | 1 GB/s | 3 |" in text
    assert "| operation | 8 | 8,000 µs each |" in text
    assert "| actor and critic | 0 | 0 | 0% |" in text
    assert "| `aten::mm` | 4 | 40.0% | 30 |" in text


def test_a_worker_that_fails_is_a_sentence(fake_measure, monkeypatch):
    monkeypatch.setattr(floor, "measure", fake_measure(lambda job: "it has no memory"))
    with pytest.raises(ValueError, match="nothing was measured: it has no memory"):
        floor.figures(floor.Floor(device="cpu"), {})
    assert floor.default_device() in ("cpu", "cuda")
