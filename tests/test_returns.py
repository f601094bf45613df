import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from worldblocks.returns import lambda_return, recursion

seeds = st.integers(0, 2**32 - 1)


def random_rows(seed, batch=2, time=5):
    """Rewards, discounts with some episode ends, values, one λ per row."""
    generator = torch.Generator().manual_seed(seed)
    reward, value = torch.randn(2, batch, time, generator=generator).double()
    discount, lam = torch.rand(2, batch, time, generator=generator).double()
    return reward, discount * (discount > 0.2), value, lam


def slow_lambda_return(reward, discount, value, lam):
    """The λ-return by definition: a mixture of n-step returns, each weighted by the probability
    that the chain of λ stops there.
    """
    returns = torch.zeros_like(reward)
    batch, time = reward.shape
    for b in range(batch):
        for t in range(time):
            going, weight, sofar = 1.0, 1.0, 0.0
            for k in range(t, time):
                sofar += going * reward[b, k]
                going *= discount[b, k]
                stop = 1.0 if k == time - 1 else 1 - lam[b, k]
                returns[b, t] += weight * stop * (sofar + going * value[b, k])
                weight *= 1 - stop
    return returns


def test_by_hand():
    """R2 = 1 + .5·8 = 5, R1 = 1 + .5(.5·6 + .5·5) = 3.75, R0 = 0 + .5(.5·4 + .5·3.75) = 1.9375."""
    reward, value = torch.tensor([[0.0, 1, 1]]), torch.tensor([[4.0, 6, 8]])
    returns = lambda_return(reward, torch.full((1, 3), 0.5), value, 0.5)
    assert returns.tolist() == [[1.9375, 3.75, 5.0]]


def test_counting_down():
    ones = torch.ones(1, 5)
    assert lambda_return(ones, ones, 0 * ones, 1.0).tolist() == [[5, 4, 3, 2, 1]]


@given(seeds, st.integers(1, 7))
def test_it_is_the_mixture_of_n_step_returns(seed, time):
    rows = random_rows(seed, time=time)
    torch.testing.assert_close(lambda_return(*rows), slow_lambda_return(*rows))


@given(seeds)
def test_lambda_0_is_one_step(seed):
    reward, discount, value, _ = random_rows(seed)
    torch.testing.assert_close(
        lambda_return(reward, discount, value, 0.0), reward + discount * value
    )


@given(seeds)
def test_lambda_1_is_the_discounted_sum_closed_by_the_last_value(seed):
    reward, discount, value, _ = random_rows(seed)
    closed = torch.cat([reward, value[:, -1:]], 1)
    going = torch.cat([torch.ones(2, 1), discount.cumprod(1)], 1)
    first = lambda_return(reward, discount, value, 1.0)[:, 0]
    torch.testing.assert_close(first, (going * closed).sum(1))
    other = value.clone()
    other[:, :-1] += 100
    torch.testing.assert_close(lambda_return(reward, discount, other, 1.0)[:, 0], first)


@given(seeds, st.floats(0, 1))
def test_one_lambda_is_the_same_for_each_row(seed, lam):
    reward, discount, value, _ = random_rows(seed)
    every = lambda_return(reward, discount, value, torch.full_like(value, lam))
    assert torch.equal(lambda_return(reward, discount, value, lam), every)
    assert torch.equal(lambda_return(reward, discount, value, every.new_tensor(lam)), every)


@given(seeds)
def test_right_values_are_a_fixed_point(seed):
    """If the values are the true returns, λ does not matter."""
    reward, discount, value, lam = random_rows(seed)
    true = lambda_return(reward, discount, value, 1.0)
    value = torch.cat([true[:, 1:], value[:, -1:]], 1)
    torch.testing.assert_close(lambda_return(reward, discount, value, lam), true)


@given(seeds)
def test_it_is_linear_in_rewards_and_values(seed):
    reward, discount, value, lam = random_rows(seed)
    whole = lambda_return(3 * reward, discount, 3 * value, lam)
    parts = lambda_return(reward, discount, 0 * value, lam)
    parts += lambda_return(0 * reward, discount, value, lam)
    torch.testing.assert_close(whole, 3 * parts)


def test_nothing_follows_a_terminal_row():
    reward, discount, value, lam = random_rows(0)
    discount[:, 2] = 0
    returns = lambda_return(reward, discount, value, lam)
    assert torch.equal(returns[:, 2], reward[:, 2])
    changed = [torch.cat([x[:, :3], x[:, 3:] + 0.1], 1) for x in (reward, value)]
    assert torch.equal(lambda_return(changed[0], discount, changed[1], lam)[:, :3], returns[:, :3])


def test_a_cut_bootstraps_and_hides_what_follows():
    """λ = 0 at a time limit: the state is alive, but the next rows are from another episode."""
    reward, discount, value, lam = random_rows(0)
    discount += 0.1
    lam[:, 2] = 0
    reward.requires_grad_()
    value.requires_grad_()
    returns = lambda_return(reward, discount, value, lam)
    torch.testing.assert_close(returns[:, 2], (reward + discount * value)[:, 2])
    for gradient in torch.autograd.grad(returns[:, :3].sum(), (reward, value)):
        assert gradient[:, 3:].eq(0).all()
        assert gradient[:, 2].ne(0).all()


def test_the_past_does_not_matter_and_sequences_do_not_mix():
    reward, discount, value, lam = random_rows(0)
    reward.requires_grad_()
    row = lambda_return(reward, discount, value, lam)[1, 3]
    (gradient,) = torch.autograd.grad(row, reward)
    assert gradient[0].eq(0).all()
    assert gradient[1, :3].eq(0).all()
    assert gradient[1, 3] == 1


def test_gradients():
    rows = [x.requires_grad_() for x in random_rows(0)]
    assert torch.autograd.gradcheck(lambda_return, rows)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extremes(scale):
    reward, discount, value, lam = (x.float() for x in random_rows(0))
    expected = lambda_return(reward, discount, value, lam)
    returns = lambda_return(reward * scale, discount, value * scale, lam)
    torch.testing.assert_close(returns / scale, expected)


def test_a_nan_reaches_earlier_rows_only():
    reward, discount, value, _ = random_rows(0)
    discount += 0.1
    reward[1, 2] = math.nan
    bad = lambda_return(reward, discount, value, 0.5).isnan()
    assert bad.tolist() == [[False] * 5, [True, True, True, False, False]]


def test_the_dtype_stays():
    assert lambda_return(*random_rows(0)).dtype == torch.float64
    assert lambda_return(*(x.float() for x in random_rows(0))).dtype == torch.float32


def test_capture(same_when_compiled):
    rows = [x.float() for x in random_rows(0, time=3)]
    same_when_compiled(lambda_return, *rows)
    same_when_compiled(lambda *rows: lambda_return(*rows, 0.95), *rows[:3])


def test_bfloat16_autocast_changes_nothing():
    rows = [x.float() for x in random_rows(0)]
    with torch.autocast("cpu", torch.bfloat16):
        cast = lambda_return(*rows)
    assert torch.equal(cast, lambda_return(*rows))


@pytest.mark.parametrize("name", ["discount", "value", "lam"])
def test_a_time_first_argument_is_named(name):
    rows = dict(zip(("reward", "discount", "value", "lam"), random_rows(0), strict=True))
    rows[name] = rows[name].T
    with pytest.raises(
        TypeCheckError, match=rf"{name} should be .*batch time.*got float64\[5, 2\]; time first\?"
    ):
        lambda_return(**rows)


def test_missing_axes_and_bool_flags_are_refused():
    reward, discount, value, lam = random_rows(0)
    with pytest.raises(TypeCheckError, match=r"reward should be .*got float64\[5\]"):
        lambda_return(reward[0], discount[0], value[0], lam[0])
    with pytest.raises(TypeCheckError, match=r"discount should be .*got bool"):
        lambda_return(reward, discount > 0, value, lam)
    with pytest.raises(TypeCheckError, match="lam should be Float"):
        lambda_return(reward, discount, value, torch.full((5,), 0.95))


def test_no_rows():
    with pytest.raises(ValueError, match=r"^lambda_return needs at least one destination row"):
        lambda_return(*random_rows(0, time=0))


@pytest.mark.parametrize("lam", [95, 1.1, -0.1, math.nan])
def test_a_lambda_out_of_range(lam):
    with pytest.raises(ValueError, match=f"^lambda_return takes a lam between 0 and 1, got {lam}"):
        lambda_return(*random_rows(0)[:3], lam)


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_doubling_is_the_recursion(time, seed):
    """Only the order of the sums differs; factors of 0 cut as well."""
    generator = torch.Generator().manual_seed(seed)
    step = torch.randn(time, 3, generator=generator, dtype=torch.float64)
    carry = torch.rand(time, 3, generator=generator, dtype=torch.float64).round(decimals=1)
    last = torch.randn(3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        recursion.doubling(step, carry, last), recursion.one_by_one(step, carry, last)
    )
