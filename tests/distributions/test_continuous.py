import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as td

from worldblocks.distributions import BoundedNormal, Normal, modes

seeds = st.integers(0, 2**32 - 1)


def pair(seed, shape=(2, 5, 3)):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).unbind(0)


def test_normal_by_hand():
    out = Normal(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0]), event=1)
    x = torch.tensor([3.0, 0.0])
    expected = -0.5 - math.log(2) - math.log(2 * math.pi)
    assert out.log_prob(x).item() == pytest.approx(expected)
    assert out.entropy().item() == pytest.approx(math.log(2) + math.log(2 * math.pi * math.e))
    assert out.mode.tolist() == out.mean.tolist() == [1, 0]
    assert out.sample(noise=torch.tensor([-1.5, 2.0])).tolist() == [-2, 2]


@given(seeds, st.sampled_from([0, 1, 2]))
def test_normal_agrees_with_torch(seed, event):
    mean, log_std = pair(seed)
    out = Normal(mean, log_std.exp(), event)
    theirs = td.Independent(td.Normal(mean, log_std.exp()), event)
    x = out.sample()
    torch.testing.assert_close(out.log_prob(x), theirs.log_prob(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.entropy(), theirs.entropy(), rtol=1e-5, atol=1e-5)


def test_entropy_is_the_mean_surprise():
    """Monte Carlo: the standard error of the mean of 100 000 draws is 0.0022; five of those."""
    out = Normal(torch.zeros(100_000), torch.full((100_000,), 0.3))
    assert out.nll(out.sample()).mean().item() == pytest.approx(out.entropy()[0].item(), abs=0.012)


def test_moments_of_samples():
    out = Normal(torch.full((100_000,), 2.0), torch.full((100_000,), 0.5))
    sample = out.sample()
    assert sample.mean().item() == pytest.approx(2, abs=5 * 0.5 / 100_000**0.5)
    assert sample.std().item() == pytest.approx(0.5, abs=5 * 0.5 / 200_000**0.5)


def test_a_sample_carries_the_gradient_of_its_path():
    mean, std = (x.requires_grad_() for x in (torch.zeros(3), torch.ones(3)))
    noise = torch.tensor([-1.0, 0.5, 2.0])
    Normal(mean, std).sample(noise).sum().backward()
    assert mean.grad.tolist() == [1, 1, 1]
    assert torch.equal(std.grad, noise)
    with modes():
        (gradient,) = torch.autograd.grad(Normal(mean, std).sample().sum(), mean)
    assert gradient.tolist() == [1, 1, 1]


def test_the_score_gradient():
    mean = torch.tensor([1.0], requires_grad=True)
    Normal(mean, torch.tensor([2.0])).log_prob(torch.tensor([5.0])).backward()
    assert mean.grad.tolist() == [1]


def test_a_deviation_does_not_broadcast():
    with pytest.raises(ValueError, match=r"Normal of shape \(2, 3\) was given a std of .*\(3,"):
        Normal(torch.zeros(2, 3), torch.ones(3))


def test_bounded_normal_by_hand():
    out = BoundedNormal(torch.tensor([0.0, 0.5]), torch.tensor([-2.0, 0.0]))
    torch.testing.assert_close(out.mean, torch.tensor([0.0, math.tanh(0.5)]))
    torch.testing.assert_close(out.std, torch.tensor([0.55, 0.9 / (1 + math.exp(-2)) + 0.1]))


def test_the_deviation_starts_at_0_893():
    """The number of the specification for a raw std of 0."""
    assert BoundedNormal(torch.zeros(1), torch.zeros(1)).std.item() == pytest.approx(
        0.893, abs=1e-3
    )


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_the_bounds_hold(raw_mean, raw_std):
    out = BoundedNormal(torch.tensor([raw_mean]), torch.tensor([raw_std]), low=0.2, high=0.7)
    assert -1 <= out.mean <= 1
    assert 0.2 - 1e-6 <= out.std <= 0.7 + 1e-6


def test_samples_are_neither_clipped_nor_squashed():
    out = BoundedNormal(torch.full((2,), 9.0), torch.full((2,), 9.0))
    x = out.sample(noise=torch.tensor([3.0, -3.0]))
    assert x[0] > 3
    expected = td.Normal(out.mean, out.std).log_prob(x)
    torch.testing.assert_close(out.log_prob(x), expected)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.1, 1.0), (0.5, 0.4)])
def test_impossible_bounds(low, high):
    message = f"BoundedNormal needs 0 < low <= high, got {low} and {high}"
    with pytest.raises(ValueError, match=message):
        BoundedNormal(torch.zeros(2), torch.zeros(2), low=low, high=high)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extremes(scale):
    raw = torch.tensor([-scale, scale], requires_grad=True)
    out = BoundedNormal(raw, raw)
    (out.log_prob(out.mode) + out.entropy()).sum().backward()
    assert raw.grad.isfinite().all()
    wide = Normal(torch.zeros(1), torch.tensor([scale]))
    assert wide.log_prob(torch.tensor([scale])).isfinite().all()
    assert Normal(torch.zeros(2), torch.ones(2)).nll(torch.tensor([math.nan, 0])).isnan()[0]
