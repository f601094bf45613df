"""The learnable symlog: the function, its inverse, its derivative, and its gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch.testing import assert_close

from worldblocks.transforms import LearnableSymlog, symexp, symlog

floats = st.floats(-(2.0**100), 2.0**100, width=32)  # about 1.3e30


def made(scale=1.0, offset=0.0, shape=()):
    transform = LearnableSymlog(shape)
    with torch.no_grad():
        transform.log_scale.fill_(math.log(scale))
        transform.offset.fill_(offset)
    return transform


def test_by_hand():
    """f(x) = symlog(2 x - 6): ln 5 two above its zero, 3; 3 + (e - 1) / 2 is mapped to 1."""
    transform = made(2, -6)
    x = torch.tensor([3.0, 5.0, 1.0, 3 + (math.e - 1) / 2])
    assert_close(transform(x), torch.tensor([0, math.log(5), -math.log(5), 1]))
    assert_close(transform.inverse(torch.tensor([0, 1.0])), x[[0, 3]])
    assert_close(transform.log_derivative(x[:2]), torch.tensor([2, 2 / 5]).log())


@given(floats)
def test_it_starts_as_symlog(value):
    transform, x = LearnableSymlog(), torch.tensor(value)
    assert torch.equal(transform(x), symlog(x))
    y = symlog(x)
    assert torch.equal(transform.inverse(y), symexp(y))


@given(st.integers(-30, 30), st.floats(1, 10), st.booleans())
def test_the_inverse_undoes_it_over_sixty_orders_of_magnitude(exponent, digits, negative):
    """Relative error: 1e-6 below 1, 3e-5 at 1e30, where a logarithm has 7 digits of float32."""
    x = torch.tensor((-1 if negative else 1) * digits * 10.0**exponent)
    transform = LearnableSymlog()
    back = transform.inverse(transform(x))
    assert (back / x - 1).abs() <= (1e-6 if x.abs() < 1 else 3e-5)


def tolerance(z, offset):
    """For z = a x + b: rounding y moves z by |y| units, and adding the offset rounds too."""
    return 4e-7 * ((1 + abs(z)) * math.log1p(abs(z)) + abs(z) + abs(offset)) + 1e-38


@given(floats, st.floats(-18, 18), st.floats(-1e6, 1e6, width=32))
def test_the_inverse_undoes_it_with_any_scale_and_offset(value, log_scale, offset):
    transform, scale = made(math.exp(log_scale), offset), math.exp(log_scale)
    back = transform.inverse(transform(torch.tensor(value))).item()
    assert scale * abs(back - value) <= tolerance(scale * value + offset, offset)


@given(st.floats(-60, 60, width=32), st.floats(-18, 18), st.floats(-10, 10, width=32))
def test_it_undoes_its_inverse(value, log_scale, offset):
    transform, z = made(math.exp(log_scale), offset), math.expm1(abs(value))
    back = transform(transform.inverse(torch.tensor(value))).item()
    assert abs(back - value) <= 4 * tolerance(z, offset) / (1 + z) + 4e-6


@given(st.lists(floats, min_size=2, max_size=7), st.floats(-18, 18), st.floats(-1e3, 1e3, width=32))
def test_it_keeps_the_order(values, log_scale, offset):
    transform = made(math.exp(log_scale), offset)
    assert (transform(torch.tensor(sorted(values))).diff() >= 0).all()
    inside = torch.tensor(sorted(max(min(value, 60.0), -60.0) for value in values))
    assert (transform.inverse(inside).diff() >= 0).all()


def test_it_ascends_strictly_where_numbers_differ_by_a_millionth():
    exponents = torch.linspace(-30, 30, 61).double()
    for sign in (1, -1):
        x = sign * 10.0**exponents
        pairs = torch.stack([x, x * (1 + 1e-4)], 1).float()
        assert (sign * made(1.0)(pairs).diff(dim=1) > 0).all()


@given(st.floats(-1e6, 1e6, width=32), st.floats(-5, 5), st.floats(-100, 100, width=32))
def test_the_log_derivative_is_that_of_autograd(value, log_scale, offset):
    transform = made(math.exp(log_scale), offset)
    x = torch.tensor(value, requires_grad=True)
    (slope,) = torch.autograd.grad(transform(x), x)
    assert_close(transform.log_derivative(x), slope.log(), rtol=1e-4, atol=1e-5)


def test_extremes():
    x = torch.tensor([1e-30, -1e-30, 1e30, -1e30, math.inf, math.nan])
    y = LearnableSymlog()(x)
    assert_close(y[:4], torch.tensor([1e-30, -1e-30, 69.0775528, -69.0775528]), rtol=1e-6, atol=0)
    assert y[4] == math.inf
    assert y[5].isnan()
    assert made(1e9)(torch.tensor(1e30)).item() == math.inf, "beyond float32"


def test_gradients_reach_parameters_and_inputs():
    transform, x = made(2, 0.5, (3,)), torch.randn(5, 3, requires_grad=True)
    leaves = [x, *transform.parameters()]
    for out in (transform(x), transform.inverse(x), transform.log_derivative(x)):
        assert all(g.ne(0).all() for g in torch.autograd.grad(out.sum(), leaves))
    flat = torch.zeros((), requires_grad=True)
    assert torch.autograd.grad(made(4)(flat), flat)[0] == 4, "at the offset too"


def test_the_scale_stays_positive_whatever_an_optimiser_does():
    transform = made(1e-3)
    optimizer = torch.optim.SGD(transform.parameters(), lr=0.5)
    for _ in range(20):  # towards 0
        optimizer.zero_grad()
        transform(torch.ones(3)).sum().backward()
        optimizer.step()
    assert 0 < transform.scale < 1e-3


def test_a_scale_for_each_entry():
    transform = LearnableSymlog((2,))
    with torch.no_grad():
        transform.log_scale.copy_(torch.tensor([0.0, math.log(10)]))
    assert_close(transform(torch.ones(7, 2))[3], torch.tensor([2.0, 11]).log())


def test_float32_whatever_it_is_given():
    transform = LearnableSymlog()
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.bfloat16, torch.float64):
            x = torch.ones(3, dtype=dtype)
            outs = transform(x), transform.inverse(x), transform.log_derivative(x)
            assert {out.dtype for out in outs} == {torch.float32}
    assert transform.bfloat16()(torch.ones(3)).dtype == torch.float32


def test_capture(same_when_compiled):
    transform = made(2, 0.5)
    same_when_compiled(
        lambda x: (transform(x), transform.inverse(x), transform.log_derivative(x)),
        torch.randn(2, 3),
        module=transform,
    )


def test_other_shapes_are_refused():
    transform = LearnableSymlog((2, 3))
    for method in (transform, transform.log_derivative):
        with pytest.raises(
            ValueError, match=r"forward takes numbers `\*batch 2 3`, got shape \(5,"
        ):
            method(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"inverse takes numbers `\*batch 2 3`, got shape \(3,\)"):
        transform.inverse(torch.zeros(3))
    with pytest.raises(TypeCheckError, match=r"x should be Float.*got int64\[3\]"):
        LearnableSymlog()(torch.tensor([1, 2, 3]))
