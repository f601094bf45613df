import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from worldblocks.ema import SlowCopy
from worldblocks.layers import MLP


def source():
    return MLP(3, units=5, layers=2)


def move(module, by=1.0):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += by


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_it_starts_as_the_module():
    fast = source()
    slow = SlowCopy(fast)
    x = torch.randn(2, 3)
    assert torch.equal(slow(x), fast(x))
    move(fast)
    assert not torch.equal(slow(x), fast(x)), "it owns its weights"


@pytest.mark.parametrize("rate", [0.02, 0.25, 0.49])
def test_one_update(rate):
    fast = source()
    slow = SlowCopy(fast, rate)
    before = weights(slow.copy)
    move(fast)
    slow.update(fast)
    torch.testing.assert_close(weights(slow.copy), before + rate)


@given(st.floats(0.01, 0.49), st.integers(1, 6))
def test_the_gap_shrinks_geometrically(rate, updates):
    fast = source()
    slow = SlowCopy(fast, rate)
    move(fast)
    for _ in range(updates):
        slow.update(fast)
    gap = (weights(fast) - weights(slow.copy)).mean().item()
    assert gap == pytest.approx((1 - rate) ** updates, abs=1e-5)


def test_rate_1_copies_exactly():
    fast = source()
    slow = SlowCopy(fast, 1)
    move(fast, 1e-3)
    slow.update(fast)
    assert torch.equal(weights(slow.copy), weights(fast))


def test_every_third_call_counts_the_first_included():
    fast = source()
    slow = SlowCopy(fast, 0.25, every=3)
    move(fast)
    gaps = []
    for _ in range(7):
        slow.update(fast)
        gaps.append(round((weights(fast) - weights(slow.copy)).mean().item(), 4))
    assert gaps == [0.75, 0.75, 0.75, 0.5625, 0.5625, 0.5625, 0.4219]


def test_it_receives_no_gradient_and_passes_one_on():
    fast = source()
    slow = SlowCopy(fast)
    x = torch.randn(2, 3, requires_grad=True)
    assert not any(p.requires_grad for p in slow.parameters())
    (gradient,) = torch.autograd.grad(slow(x).sum(), x)
    assert gradient.ne(0).any()
    slow.update(fast)
    assert all(p.grad is None and p.requires_grad for p in fast.parameters())


def test_the_count_is_saved():
    fast = source()
    slow = SlowCopy(fast, 0.25, every=2)
    slow.update(fast)
    resumed = SlowCopy(fast, 0.25, every=2)
    resumed.load_state_dict(copy.deepcopy(slow.state_dict()))
    move(fast)
    for each in (slow, resumed):
        each.update(fast)  # the second call does not update
        each.update(fast)
    assert torch.equal(weights(slow.copy), weights(resumed.copy))


def test_capture():
    """Three updates and the output of the copy, compiled and eager."""
    fast = source()
    eager, graph = SlowCopy(fast, 0.25), SlowCopy(fast, 0.25)
    move(fast)

    def step(slow, x):
        slow.update(fast)
        return slow(x)

    torch.compiler.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for x in torch.randn(3, 2, 3):
        torch.testing.assert_close(compiled(graph, x), step(eager, x))
    torch.testing.assert_close(weights(graph.copy), weights(eager.copy))


@pytest.mark.parametrize("rate", [0, 0.5, 0.98, -0.1, 1.1])
def test_impossible_rates(rate):
    with pytest.raises(ValueError, match=f"a rate of 1 or between 0 and 0.5, got {rate}"):
        SlowCopy(source(), rate)


def test_impossible_every():
    with pytest.raises(ValueError, match="every 1 or more calls, got every=0"):
        SlowCopy(source(), every=0)


@pytest.mark.parametrize("other", [MLP(3, units=6, layers=2), nn.Linear(3, 5)])
def test_another_module(other):
    with pytest.raises(ValueError, match="takes the module that was copied; the shapes differ"):
        SlowCopy(source()).update(other)
