"""Hypothesis profiles, slow tests, the golden arrays, one way to compile for every test."""

import gc
import os

import hypothesis
import pytest
import torch
from torch.utils import _pytree as pytree

from golden_folder import GOLDEN

# `python tests/peers` needs other libraries and is not a test.
collect_ignore_glob = ["peers/*.py"]

hypothesis.settings.register_profile("dev", max_examples=20, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--thorough"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="minutes: runs under --thorough"))


def pytest_collection_finish():
    """What is there by now stays: each `torch.compiler.reset` would look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed():
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # the same, without a note of the call stack for each device that is not there
        torch.default_generator.manual_seed(0)


@pytest.fixture
def golden():
    return GOLDEN


@pytest.fixture(params=[1, 3])
def threads(request):
    """Threads of PyTorch; kernels split their work, and sum in another order, by this number."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def same_when_compiled():
    """A check that a function is one graph, with the values and gradients of its eager calls."""
    from worldblocks.testing.promise.compare import compiled

    def run(function, inputs, parameters):
        leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
        outputs = [x for x in pytree.tree_leaves(function(*leaves)) if torch.is_tensor(x)]
        smooth = [x for x in outputs if x.requires_grad]
        wanted = [x for x in [*leaves, *parameters] if x.requires_grad]
        # Weights that differ, so that entries which swap places show.
        loss = sum((x * torch.linspace(0.5, 1.5, x.numel()).view_as(x)).sum() for x in smooth)
        gradients = torch.autograd.grad(loss, wanted, allow_unused=True) if smooth else []
        return [x.detach() for x in outputs], list(gradients)

    def check(function, *inputs, module=None, by_entry=True):
        """`by_entry=False`: by the largest entry of each array, where convolutions may sum the
        same products in another order and small entries are what large ones leave."""
        parameters = list(module.parameters()) if module is not None else []
        eager = run(function, inputs, parameters)
        with compiled(function) as graph:
            ours = run(graph, inputs, parameters)
        assert len(ours[0]) == len(eager[0])
        for a, b in zip([*ours[0], *ours[1]], [*eager[0], *eager[1]], strict=True):
            assert (a is None) == (b is None)
            if a is not None and by_entry:
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
            elif a is not None:
                assert (a.shape, a.dtype) == (b.shape, b.dtype)
                error = (a.double() - b.double()).abs().max() if a.numel() else 0.0
                assert error <= 2e-6 * max(b.double().abs().max().item(), 0.5)
        assert eager[0], "a function without a tensor shows nothing"

    return check
