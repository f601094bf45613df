import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from worldblocks.transforms import (
    symexp,
    symexp_bins,
    symlog,
    symmetric_mean,
    two_hot,
    two_hot_indices,
    two_hot_mean,
)

floats = st.floats(-(2.0**100), 2.0**100, width=32)  # about 1.3e30
seeds = st.integers(0, 2**32 - 1)


def grad(function, *values):
    x = torch.tensor(values, requires_grad=True)
    return torch.autograd.grad(function(x).sum(), x)[0].tolist()


def random_bins(seed, n):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, generator=generator).mul(5).sort().values


def slow_two_hot(x, bins):
    """The reference's rule, one number at a time in float64."""
    n, values = len(bins), [float(b) for b in bins]
    below = min(max(sum(b <= x for b in values) - 1, 0), n - 1)
    above = min(max(n - sum(b > x for b in values), 0), n - 1)
    weights = [0.0] * n
    if below == above:
        weights[below] = 1.0
        return weights
    to_below, to_above = abs(values[below] - x), abs(values[above] - x)
    weights[below] += to_above / (to_below + to_above)
    weights[above] += to_below / (to_below + to_above)
    return weights


# -------------------------------------------------------------------------------- symlog and symexp


def test_symlog_by_hand():
    x = torch.tensor([0.0, math.e - 1, 1 - math.e, 9.0, -9.0])
    expected = torch.tensor([0, 1, -1, math.log(10), -math.log(10)])
    torch.testing.assert_close(symlog(x), expected)
    torch.testing.assert_close(symexp(expected), x, rtol=1e-6, atol=1e-6)


@given(floats)
def test_symexp_undoes_symlog(value):
    x = torch.tensor(value, dtype=torch.float64)
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-12, atol=1e-300)


@given(floats)
def test_both_are_antisymmetric(value):
    x = torch.tensor(value)
    assert symlog(-x) == -symlog(x)
    assert symexp(symlog(-x)) == -symexp(symlog(x))


@given(st.lists(floats, min_size=2, max_size=7))
def test_symlog_keeps_the_order(values):
    assert (symlog(torch.tensor(sorted(values))).diff() >= 0).all()


@given(st.floats(-1e6, 1e6, width=32))
def test_derivatives(value):
    assert grad(symlog, value) == pytest.approx([1 / (1 + abs(value))], rel=1e-5)
    small = value / 1e5
    assert grad(symexp, small) == pytest.approx([math.exp(abs(small))], rel=1e-5)


def test_the_derivative_at_zero_is_one():
    assert grad(symlog, 0.0, -0.0) == [1, 1]
    assert grad(symexp, 0.0, -0.0) == [1, 1]


def test_extremes():
    x = torch.tensor([1e-30, -1e-30, 1e30, -1e30, math.inf, -math.inf])
    expected = torch.tensor([1e-30, -1e-30, 69.0775528, -69.0775528, math.inf, -math.inf])
    torch.testing.assert_close(symlog(x), expected, rtol=1e-6, atol=0)
    assert symexp(torch.tensor([90.0, -90.0])).tolist() == [math.inf, -math.inf]
    assert symlog(torch.tensor([math.nan, 0.0])).isnan().tolist() == [True, False]
    assert symexp(torch.tensor([math.nan, 0.0])).isnan().tolist() == [True, False]


def test_the_dtype_stays():
    for dtype in (torch.bfloat16, torch.float64):
        assert symlog(torch.ones(3, dtype=dtype)).dtype == dtype
        assert symexp(torch.ones(3, dtype=dtype)).dtype == dtype


def test_integers_are_refused():
    with pytest.raises(TypeCheckError, match=r"x should be Float.*got int64\[3\]"):
        symlog(torch.tensor([1, 2, 3]))


# --------------------------------------------------------------------------------------------- bins


@pytest.mark.parametrize("n", [2, 3, 4, 5, 41, 254, 255, 256])
def test_bins_mirror_ascend_and_reach_the_ends(n):
    bins = symexp_bins(n)
    assert (bins.dtype, bins.shape) == (torch.float32, (n,))
    assert torch.equal(bins, -bins.flip(0))
    assert (bins.diff() >= 0).all()
    assert bins[-1].item() == pytest.approx(math.expm1(20), rel=1e-7)
    assert (bins == 0).sum() == (1 if n % 2 else 2 * (n > 2))


def test_bins_by_hand():
    """The numbers of the specification for 255 bins, with a grid spacing of 20 / 127."""
    bins = symexp_bins(255)
    expected = torch.tensor([0, math.expm1(20 / 127), math.expm1(40 / 127)])
    torch.testing.assert_close(bins[127:130], expected, rtol=1e-6, atol=0)
    assert bins[128].item() == pytest.approx(0.17055778, rel=1e-6)


def test_bins_are_rounded_once():
    """Each bin is the float32 nearest to the number of the specification."""
    grid = torch.linspace(-20, 0, 128, dtype=torch.float64)
    assert torch.equal(symexp_bins(255)[:128], -torch.expm1(-grid).float())


@pytest.mark.parametrize("n", [1, 0, -3])
def test_too_few_bins(n):
    with pytest.raises(ValueError, match=f"symexp_bins needs at least 2 bins, got {n}"):
        symexp_bins(n)


# ------------------------------------------------------------------------------------------ two-hot


def test_two_hot_by_hand():
    bins = torch.tensor([-1.0, 0.0, 2.0])
    x = torch.tensor([-0.25, 0.5, 0.0, 2.0, -1.0, 7.0, -7.0])
    expected = [[0.25, 0.75, 0], [0, 0.75, 0.25], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert two_hot(x, bins).tolist() == [*expected, [1, 0, 0]]


@given(seeds, st.integers(2, 9), floats)
def test_two_hot_is_a_distribution_over_neighbours(seed, n, value):
    weights = two_hot(torch.tensor(value), random_bins(seed, n))
    assert weights.sum() == 1
    assert (weights >= 0).all()
    hit = weights.nonzero().flatten()
    assert len(hit) <= 2
    assert hit.max() - hit.min() <= 1


@given(seeds, st.integers(2, 9), st.floats(-12, 12, width=32))
def test_two_hot_is_the_slow_loop(seed, n, value):
    bins = random_bins(seed, n)
    expected = torch.tensor(slow_two_hot(value, bins))
    torch.testing.assert_close(two_hot(torch.tensor(value), bins), expected, rtol=0, atol=1e-6)


@given(seeds, st.integers(0, 8))
def test_a_bin_that_is_hit_takes_all(seed, k):
    bins = random_bins(seed, 9)
    assert two_hot(bins[k], bins).tolist() == [float(i == k) for i in range(9)]


@given(seeds, st.sampled_from([2, 5, 40, 255]), st.floats(0, 1))
def test_the_mean_of_a_two_hot_is_the_value(seed, n, share):
    bins = random_bins(seed, n)
    x = torch.lerp(bins[0], bins[-1], share)
    torch.testing.assert_close(two_hot_mean(two_hot(x, bins), bins), x, rtol=1e-5, atol=1e-5)


@given(st.floats(-1e8, 1e8, width=32))
def test_the_mean_over_symexp_bins_is_the_value(value):
    bins = symexp_bins(255)
    mean = two_hot_mean(two_hot(torch.tensor(value), bins), bins).item()
    assert mean == pytest.approx(value, rel=1e-5, abs=1e-6)


@given(floats)
def test_mirrored_values_have_mirrored_two_hots(value):
    bins, x = symexp_bins(255), torch.tensor(value)
    torch.testing.assert_close(two_hot(-x, bins), two_hot(x, bins).flip(-1), rtol=0, atol=1e-6)


def test_zero_lies_on_one_of_the_two_zeros_of_an_even_count():
    assert two_hot(torch.tensor(0.0), symexp_bins(4)).tolist() == [0, 0, 1, 0]


def test_extremes_take_the_end_bins():
    bins = symexp_bins(255)
    x = torch.tensor([1e30, -1e30, math.inf, -math.inf, torch.finfo(torch.float32).max])
    hit = two_hot(x, bins).argmax(-1).tolist()
    assert hit == [254, 0, 254, 0, 254]
    assert two_hot(torch.tensor(1e-30), bins)[127] == 1


def test_of_two_equal_bins_at_the_end_the_last_takes_all():
    assert two_hot(torch.tensor([1.0]), torch.tensor([0.0, 1.0, 1.0])).tolist() == [[0, 0, 1]]


def test_a_nan_stays_a_nan_and_does_not_spread():
    weights = two_hot(torch.tensor([math.nan, 1.0]), symexp_bins(5))
    assert weights[0].isnan().any()
    assert weights[1].sum() == 1


def test_the_gradient_of_two_hot_is_the_slope_of_the_weights():
    bins = torch.tensor([-1.0, 0.0, 2.0])
    assert grad(lambda x: two_hot(x, bins)[:, 2], 0.5, -0.5, 9.0) == [0.5, 0, 0]


def test_two_hot_is_float32_whatever_it_is_given():
    bins = symexp_bins(5)
    for dtype in (torch.bfloat16, torch.float64):
        assert two_hot(torch.ones(3, dtype=dtype), bins).dtype == torch.float32
        assert two_hot(torch.ones(3), bins.to(dtype)).dtype == torch.float32


def test_indices_and_weights_are_the_two_hot():
    bins = torch.tensor([-1.0, 0.0, 2.0])
    below, weight = two_hot_indices(torch.tensor([-0.25, 0.5, 9.0]), bins)
    assert (below.tolist(), weight.tolist()) == ([0, 1, 1], [0.75, 0.25, 1])


@pytest.mark.parametrize(
    ("bins", "shown"),
    [
        ([0.0, 2.0, 1.0], r"got \[0, 2, 1\]"),
        ([0.0, math.nan, 1.0], r"got \[0, nan, 1\]"),
        ([5.0, 4.0, 3.0, 2.0, 1.0], r"got \[5, 4, 3, 2, …\]"),
        ([4.0, 3.0, 2.0, 1.0], r"got \[4, 3, 2, 1\]"),
        ([1.5], r"got \[1.5\]"),
    ],
)
def test_bins_must_ascend(bins, shown):
    with pytest.raises(ValueError, match=f"two_hot takes at least 2 bins that ascend, {shown}"):
        two_hot(torch.zeros(3), torch.tensor(bins))


# --------------------------------------------------------------------------------------------- mean


@pytest.mark.parametrize("n", [2, 5, 6, 255, 256])
def test_a_uniform_distribution_has_mean_exactly_zero(n):
    assert two_hot_mean(torch.full((3, n), 1 / n), symexp_bins(n)).tolist() == [0, 0, 0]


@given(seeds, st.sampled_from([4, 7, 255]))
def test_a_mirrored_distribution_has_the_opposite_mean(seed, n):
    probs = torch.randn(n, generator=torch.Generator().manual_seed(seed)).mul(9).softmax(-1)
    assert two_hot_mean(probs, symexp_bins(n)) == -two_hot_mean(probs.flip(-1), symexp_bins(n))


@given(seeds, st.sampled_from([2, 4, 7, 11]))
def test_the_mean_is_the_plain_sum(seed, n):
    bins = random_bins(seed, n)
    probs = torch.randn(3, n, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    expected = (probs.double() * bins.double()).sum(-1).float()
    torch.testing.assert_close(two_hot_mean(probs, bins), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(symmetric_mean(probs, bins), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_the_mean_is_the_bins():
    bins = symexp_bins(5)
    probs = torch.full((5,), 0.2, requires_grad=True)
    two_hot_mean(probs, bins).backward()
    torch.testing.assert_close(probs.grad, bins)


@pytest.mark.parametrize("rows", [[[0.5, 0.4]], [[0.5, 0.5], [2.0, 0.0]], [[math.nan, 0.5]]])
def test_a_mean_of_what_is_no_probability_is_refused(rows):
    with pytest.raises(ValueError, match=r"takes probabilities, .* off by .*logits.softmax\(-1\)"):
        two_hot_mean(torch.tensor(rows), torch.tensor([0.0, 1.0]))


def test_a_row_may_be_off_by_a_rounding_of_its_dtype():
    """By 0.001 in float32, by 0.011 in bfloat16."""
    bins = torch.tensor([0.0, 1.0])
    for half, off in ((torch.tensor([0.5]), 0.005), (torch.tensor([0.5]).bfloat16(), 0.0156)):
        two_hot_mean(torch.cat([half, half]), bins)
        with pytest.raises(ValueError, match=f"a row is off by {off}"):
            two_hot_mean(torch.cat([half, half + off]), bins)
    assert two_hot_mean(torch.tensor([0.5, 0.5078]).bfloat16(), bins).item() == 0.5078125


def test_the_mean_takes_bfloat16_probabilities_and_none_at_all():
    bins = symexp_bins(255)
    assert two_hot_mean(torch.randn(3, 255).softmax(-1).bfloat16(), bins).shape == (3,)
    assert two_hot_mean(torch.zeros(0, 255), bins).shape == (0,)


def test_probabilities_of_other_bins_are_refused():
    with pytest.raises(TypeCheckError, match=r"bins should be .*got float32\[7\]"):
        two_hot_mean(torch.full((3, 5), 0.2), symexp_bins(7))


# ------------------------------------------------------------------------------------------ capture


def test_capture(same_when_compiled):
    bins = symexp_bins(7)
    x, logits = torch.randn(2, 3) * 30, torch.randn(2, 3, 7)
    same_when_compiled(
        lambda x, logits: (
            symlog(x),
            symexp(symlog(x)),
            two_hot(x, bins),
            two_hot_mean(logits.softmax(-1), bins) / 1e8,
        ),
        x,
        logits,
    )


def test_bfloat16_autocast_changes_nothing():
    bins, x = symexp_bins(255), torch.randn(5) * 30
    probs = torch.randn(5, 255).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = symlog(x), two_hot(x, bins), two_hot_mean(probs, bins)
    torch.testing.assert_close(cast, (symlog(x), two_hot(x, bins), two_hot_mean(probs, bins)))
