"""Shared parts of the adapters: data, FLOPs, the closure of requirements, stores."""

import ast

import numpy as np
import pytest
import torch
from benchmarks.options import CHECKOUTS
from benchmarks.subject import NAMES, subject
from benchmarks.work import Work

import worldblocks as wb
from benchmarks import (
    ROOT,
    data,
    imports,
    ours,
    replay,
    returns,
    rssm,
    stores,
    torch_tools,
    update,
)
from worldblocks import layers


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """A worker sets its threads once; the tests share one process."""
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.UpConv2d(3, 7),
        lambda: layers.ConvTranspose2d(3, 7, 5, stride=2),
        lambda: layers.PooledConv2d(3, 7),
        lambda: layers.Conv2d(3, 7, 5, stride=2),
    ],
)
def test_a_layer_is_what_it_is_counted_as(layer):
    layer, x = layer(), torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    torch.nn.init.normal_(layer.bias)
    out = layer(x)
    with ours.plain_layers():
        torch.testing.assert_close(layer(x), out, rtol=1e-5, atol=1e-5)
        defined = torch_tools.flops(lambda: layer(x))
    assert defined != torch_tools.flops(lambda: layer(x))


def test_flops_of_products_that_are_added_in_place():
    total, a, b = torch.zeros(3, 5), torch.zeros(3, 4), torch.zeros(4, 5)
    many = torch.zeros(7, 3, 5)
    assert torch_tools.flops(lambda: total.addmm_(a, b)) == 2 * 3 * 4 * 5
    wide = a.expand(7, -1, -1), b.expand(7, -1, -1)
    assert torch_tools.flops(lambda: many.baddbmm_(*wide)) == 7 * 2 * 3 * 4 * 5
    assert torch_tools.flops(lambda: total.add_(1.0)) == 0


def test_flops_of_a_matrix_product_and_its_backward():
    weight = torch.randn(4, 5, requires_grad=True)
    x = torch.randn(3, 4)
    assert torch_tools.flops(lambda: (x @ weight).sum().backward()) == 2 * 2 * 3 * 4 * 5
    assert torch_tools.count([weight, weight, x]) == 20 + 12


def test_our_step_learns_on_the_work_it_is_given():
    timed = update.ours(Work(batch=2, length=3, horizon=2))
    assert timed.parameters == 686_456  # as many as the reference has
    executed = torch_tools.flops(timed.functions["step"])
    assert timed.flops["step"] > executed  # the decoder takes a shorter way
    assert timed.mode == "eager, shapes checked"


def test_our_rssm_observes_with_and_without_gradients_and_imagines(monkeypatch):
    seen, observe = [], wb.rssm.RSSM.observe

    def noted(self, *given):
        seen.append(torch.is_grad_enabled())
        return observe(self, *given)

    monkeypatch.setattr(wb.rssm.RSSM, "observe", noted)
    timed = rssm.ours(Work(observe=(2, 3), imagine=4, horizon=2))
    assert set(timed.functions) == set(timed.flops) == set(rssm.cases(Work()))
    seen.clear()
    for case in ("observe", "observe_backward", "imagine"):
        timed.functions[case]()
    assert seen == [False, True]
    assert 2 * timed.flops["observe"] < timed.flops["observe_backward"]


def test_gradients_of_one_call_are_not_those_of_the_next():
    weight = torch.ones(3, requires_grad=True)
    kept = []

    def zero_grad():
        kept.append(weight.grad.tolist())
        weight.grad = None

    calls = rssm.functions(lambda: [2 * weight, weight], zero_grad, lambda: None)
    calls["observe_backward"]()
    calls["observe_backward"]()
    assert kept == [[3.0, 3.0, 3.0]] * 2
    assert not calls["observe"]()[0].requires_grad


def test_every_contestant_has_its_adapter():
    """Their source is parsed, since most peers are not installed."""
    for name in NAMES:
        for one in subject(name).contestants:
            module, _, function = one.adapter.partition(":")
            path = ROOT / "benchmarks" / f"{module.replace('.', '/')}.py"
            found = [
                node
                for node in ast.parse(path.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef) and node.name == function
            ]
            assert len(found) == 1, one.adapter
            given = {"work", *one.arguments, *(["repo"] if one.peer in CHECKOUTS else [])}
            taken = [argument.arg for argument in found[0].args.args]
            assert given <= set(taken), one.adapter
            without = len(taken) - len(found[0].args.defaults)
            assert set(taken[:without]) <= given, one.adapter


def test_options_of_the_recipe():
    one = ours.assemble(Work(batch=1, length=3, horizon=1), imag_last=2, recompute=1)
    assert (one.cfg.imag_last, one.agent.rssm.recompute) == (2, 1)


def test_a_cold_start_is_code_that_runs():
    """In this process; a fresh one would import torch again."""
    work, found = Work(batch=1, length=2, horizon=1), {}
    exec(imports.first_update(work), found)
    assert found["work"] == work


def test_a_batch_is_the_same_each_time():
    one, other = data.batch(2, 5), data.batch(2, 5)
    assert all((one[key] == other[key]).all() for key in one)
    assert one["image"].shape == (2, 5, 64, 64, 3)
    assert (one["action"].argmax(-1) == one["action_index"]).all()
    assert one["is_first"][:, 0].all()


def test_streams_end_at_different_times():
    rows = data.steps(8, image=False)
    firsts = np.stack([row["is_first"] for row in rows])
    assert (firsts.sum(0) == 1).all()
    assert (firsts.sum(1) <= 1).all()
    longer = data.stretch(rows, data.EPISODE + 3)
    assert (longer["obs"][data.EPISODE] == rows[0]["obs"]).all()
    episode = np.stack([data.episodes(time, 8) for time in range(2 * data.EPISODE)])
    for stream in range(8):
        assert (np.diff(episode[:, stream]) != 0)[: data.EPISODE].sum() == 1
    assert len(np.unique(episode[0])) == 8
    assert data.bytes_of_step(image=True) == 64 * 64 * 3 + 6 * 4 + 4 + 3


def test_exact_returns_are_ours():
    numbers = returns.numbers(5, 3)
    given = [torch.as_tensor(numbers[key].T.copy()) for key in ("reward", "discount", "value")]
    found = wb.returns.lambda_return(*given, returns.LAM).T
    np.testing.assert_allclose(found, returns.exact(numbers), rtol=1e-5, atol=1e-5)


def test_requirements_of_requirements_are_counted():
    closure = imports.closure("worldblocks")
    assert {"worldblocks", "torch", "sympy", "mpmath", "beartype"} <= closure
    assert "tyro" not in closure  # of an extra
    assert imports.closure("no-such-distribution") == set()


def test_time_of_an_import_is_that_of_the_child():
    before = imports.children()
    imports.run("sum(range(3_000_000))")
    assert imports.children() > before + 0.01


def test_memory_is_what_a_store_grew_by():
    work = Work(streams=2, sample=(2, 3), image_steps=400, proprio_steps=400_000)
    held = []

    def make(capacity, image):
        size = data.bytes_of_step(image=image) * capacity
        array = np.empty(size, np.uint8)
        held.append(array)
        return stores.Store(lambda: None, many=lambda count: array.fill(1))

    timed = stores.measured(work, make, note="one array")
    assert timed.values["memory_image"] == pytest.approx(400 * 12_319 / 2**20, rel=0.05)
    assert timed.values["memory_proprio"] == pytest.approx(400_000 * 127 / 2**20, rel=0.05)
    assert timed.note == "one array; 5 MiB of image rows"
    assert list(timed.functions) == ["add", "add_proprio"]
    assert timed.per == {"add": 2, "add_proprio": 2}


def test_rows_are_added_to_a_store_that_is_full(monkeypatch):
    """New memory costs time at the first access, which a long run pays only once."""
    made = []

    class Kept(wb.replay.SequenceReplay):
        def __init__(self, **options):
            super().__init__(**options)
            self.most = options["capacity"]
            made.append(self)

    monkeypatch.setattr(wb.replay, "SequenceReplay", Kept)
    timed = replay.ours(Work(streams=2, sample=(2, 3), image_steps=40, proprio_steps=60))
    vectors, images = made[1], made[3]  # each after a small one that warms up
    for store, name in ((vectors, "add_proprio"), (images, "add")):
        assert len(store) == store.most
        timed.functions[name]()
        assert len(store) == store.most
