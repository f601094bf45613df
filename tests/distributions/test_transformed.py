"""Transformed normals, and the head that predicts them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from worldblocks.distributions import Normal, TransformedNormal, modes
from worldblocks.heads import SymlogHead
from worldblocks.transforms import LearnableSymlog


def made(mean, std=1.0, scale=1.0, offset=0.0, event=0):
    transform = LearnableSymlog()
    with torch.no_grad():
        transform.log_scale.fill_(math.log(scale))
        transform.offset.fill_(offset)
    mean = torch.as_tensor(mean)
    return TransformedNormal(mean, torch.full_like(mean, std), transform, event)


def test_by_hand():
    """x = e - 1: f = 1, f' = 1/e; ln p = -1/2 (1 - 0)² - ln √2π - 1."""
    output = made([0.0])
    expected = -0.5 - 0.5 * math.log(2 * math.pi) - 1
    assert_close(output.log_prob(torch.tensor([math.e - 1])), torch.tensor([expected]))
    assert_close(made([1.0]).mean, torch.tensor([math.e - 1]))


@given(st.floats(-2, 2), st.floats(0.3, 2), st.floats(0.2, 5), st.floats(-3, 3))
def test_it_is_a_density(mean, std, scale, offset):
    """The integral over x is 1: over f(x) in steps of f⁻¹."""
    output = made(float(mean), std, scale, offset)
    grid = torch.linspace(mean - 8 * std, mean + 8 * std, 20_001).double()
    edges = (grid.sign() * grid.abs().expm1() - offset) / scale
    centres = ((edges[1:] + edges[:-1]) / 2).float()
    whole = TransformedNormal(
        output._mean.expand(centres.shape), output.std.expand(centres.shape), output.transform
    )
    total = (whole.log_prob(centres).double().exp() * edges.diff()).sum().item()
    assert total == pytest.approx(1, abs=2e-3)


def test_samples_have_the_median_and_the_spread():
    output = made(torch.full((20_000,), 1.5), std=0.5, scale=2.0, offset=3.0)
    sample = output.sample()
    assert sample.median().item() == pytest.approx(output.mean[0].item(), abs=0.03)
    assert output.transform(sample).std().item() == pytest.approx(0.5, rel=0.03)
    assert_close(output.sample(noise=torch.zeros(20_000)), output.mean)
    with modes():
        assert torch.equal(output.sample(), output.mean)


def test_event_axes_and_slices():
    output, x = made(torch.randn(5, 3), event=1), torch.randn(5, 3)
    assert output.nll(x).shape == (5,)
    assert_close(output[1:].nll(x[1:]), output.nll(x)[1:])
    assert_close(output.log_prob(x), made(output._mean).log_prob(x).sum(-1))


def test_gradients_reach_mean_and_transform_and_no_target():
    mean, target = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    output = made(mean)
    output.nll(target).sum().backward()
    assert target.grad is None
    for x in (mean, *output.transform.parameters()):
        assert x.grad.ne(0).all()


def fitted(x, jacobian):
    """The scale after 150 steps on numbers x, with the mean fixed at 0 in symlog space."""
    output = made(torch.zeros_like(x))
    optimizer = torch.optim.Adam(output.transform.parameters(), lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = output.nll(x) if jacobian else output.normal.nll(x) * 0 + output.transform(x) ** 2
        loss.mean().backward()
        optimizer.step()
    return output.transform.scale.item()


def test_the_scale_learns_the_size_of_the_numbers_because_of_the_jacobian():
    x = torch.randn(500)
    small, large = (fitted(size * x, jacobian=True) * size for size in (1e-3, 1e3))
    assert small == pytest.approx(large, rel=0.1)
    assert 0.3 < small < 3
    assert fitted(x, jacobian=False) < 0.1, "a squared error alone maps everything to 0"


def test_capture_and_autocast(same_when_compiled):
    transform = LearnableSymlog()

    def function(mean, x):
        output = TransformedNormal(mean, torch.ones_like(mean), transform)
        return output.nll(x), output.mean, output.sample(noise=x)

    mean, x = torch.randn(2, 3), torch.randn(2, 3)
    same_when_compiled(function, mean, x, module=transform)
    with torch.autocast("cpu", torch.bfloat16):
        cast = function(mean.bfloat16(), x)
    assert {out.dtype for out in cast} == {torch.float32}


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"TransformedNormal of shape \(3,\) was given a std"):
        TransformedNormal(torch.zeros(3), torch.ones(2), LearnableSymlog())
    with pytest.raises(
        ValueError, match=r"was given a value of shape \(2, 3\); they must be equal"
    ):
        made(torch.zeros(3)).nll(torch.zeros(2, 3))


# --------------------------------------------------------------------------------------------- head


def test_the_head_predicts_zero_at_first_and_learns_numbers_of_any_size():
    torch.manual_seed(1)
    head, feature = SymlogHead(5, units=16, layers=1), torch.randn(64, 5)
    assert head(feature).mean.eq(0).all()
    target = 1e4 * feature[:, 0]
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    before = head(feature).nll(target).mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = head(feature).nll(target).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < before - 3
    error = (head(feature).mean - target).abs().median() / target.abs().median()
    assert error < 0.3


def test_the_head_takes_a_transform_and_slices(same_when_compiled):
    shared = LearnableSymlog()
    head = SymlogHead(6, units=8, layers=2, transform=shared, outscale=1.0)
    feature = torch.randn(2, 3, 6)
    assert head.transform is shared
    assert head(feature)[:, :-1].nll(torch.zeros(2, 2)).shape == (2, 2)
    assert isinstance(head(feature).normal, Normal)
    gradients = torch.autograd.grad(
        head(feature).nll(torch.ones(2, 3)).sum(), list(head.parameters())
    )
    assert all(g.ne(0).any() for g in gradients)
    same_when_compiled(lambda x: head(x).nll(torch.ones(2, 3)), feature, module=head)
