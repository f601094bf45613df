import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.normalize import PercentileScale, RunningMoments

seeds = st.integers(0, 2**32 - 1)


def numbers(seed, shape=(3, 7)):
    return 10 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --------------------------------------------------------------------------------- percentile scale


def test_percentiles_by_hand():
    """Of 0 … 10: the 5th percentile is 0.5, the 95th 9.5."""
    scale = PercentileScale(rate=1.0)
    assert scale(torch.arange(11.0)).item() == pytest.approx(9)
    assert scale.limits().tolist() == pytest.approx([0.5, 9.5])


def test_it_updates_first_and_then_reads():
    scale = PercentileScale(rate=0.5, low=0, high=100)
    assert scale(torch.tensor([0.0, 8.0])).item() == 4
    assert scale(torch.tensor([0.0, 8.0])).item() == 6


@given(seeds, st.floats(0, 49), st.floats(51, 100))
def test_it_agrees_with_numpy(seed, low, high):
    x = numbers(seed)
    scale = PercentileScale(rate=1.0, low=low, high=high, floor=1e-3)
    ends = np.percentile(x.double().numpy(), [low, high])
    assert scale(x).item() == pytest.approx(max(ends[1] - ends[0], 1e-3), rel=1e-4)
    assert scale.limits().tolist() == pytest.approx(ends.tolist(), rel=1e-4, abs=1e-4)


@given(seeds, st.integers(1, 5), st.floats(0.01, 1))
def test_it_is_a_running_average_from_zero(seed, updates, rate):
    scale, expected = PercentileScale(rate=rate, floor=1e-3), np.zeros(2)
    for k in range(updates):
        x = numbers(seed + k)
        expected += rate * (np.percentile(x.numpy(), [5, 95]) - expected)
        scale(x)
    assert scale.limits().tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-4)


@given(seeds, st.integers(1, 5), st.floats(0.01, 1))
def test_debias_gives_a_constant_at_once(seed, updates, rate):
    scale, x = PercentileScale(rate=rate, debias=True), numbers(seed)
    for _ in range(updates):
        ours = scale(x).item()
    low, high = np.percentile(x.numpy(), [5, 95])
    assert ours == pytest.approx(max(high - low, 1), rel=1e-3)


def test_a_range_of_2_passes_the_floor_at_the_69th_update():
    scale, x = PercentileScale(low=0, high=100), torch.tensor([-1.0, 1.0])
    values = [scale(x).item() for _ in range(69)]
    assert values[:68] == [1.0] * 68
    assert values[68] > 1


@given(seeds)
def test_order_and_shape_do_not_matter(seed):
    x = numbers(seed)
    shuffled = x.flatten()[torch.randperm(21)].view(7, 3)
    assert PercentileScale(rate=1.0)(x) == PercentileScale(rate=1.0)(shuffled)


@pytest.mark.parametrize("debias", [False, True])
def test_in_eval_mode_it_only_reads(debias):
    scale = PercentileScale(rate=0.5, debias=debias).eval()
    assert scale(numbers(0)).item() == 1, "before any update: the floor"
    value = scale.train()(numbers(0))
    before = copy.deepcopy(scale.state_dict())
    assert scale.eval()(1e6 * numbers(1)) == value
    assert all(torch.equal(scale.state_dict()[key], before[key]) for key in before)


def test_no_gradient_passes():
    x = numbers(0).requires_grad_()
    assert not PercentileScale()(x).requires_grad


def test_its_state_is_saved():
    scale = PercentileScale(rate=0.5)
    scale(numbers(0))
    resumed = PercentileScale(rate=0.5)
    resumed.load_state_dict(scale.state_dict())
    assert torch.equal(resumed(numbers(1)), scale(numbers(1)))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_extremes(size):
    scale = PercentileScale(rate=1.0, low=0, high=100, floor=1e-38)
    assert scale(torch.tensor([-size, size])).item() == pytest.approx(2 * size)
    assert PercentileScale(rate=1.0)(torch.tensor([size])).item() == 1, "one number has no range"


def test_bfloat16_is_sorted_in_float32():
    scale = PercentileScale(rate=1.0)
    assert scale(torch.arange(11.0).bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert scale(torch.arange(11.0)).item() == pytest.approx(9)


def test_no_numbers():
    with pytest.raises(
        ValueError, match=r"percentiles need at least one number, got shape \(0, 3\)"
    ):
        PercentileScale()(torch.zeros(0, 3))


def test_a_module_cast_to_another_dtype_works_on():
    for dtype in (torch.bfloat16, torch.float64):
        scale = PercentileScale(rate=1.0).to(dtype)
        assert scale(torch.arange(11.0)).item() == pytest.approx(9, rel=0.01)


@pytest.mark.parametrize(("low", "high"), [(95, 5), (-1, 50), (5, 101), (50, 50)])
def test_impossible_percentiles(low, high):
    with pytest.raises(ValueError, match=f"0 <= low < high <= 100, got {low} and {high}"):
        PercentileScale(low=low, high=high)


@pytest.mark.parametrize("block", [PercentileScale, RunningMoments])
@pytest.mark.parametrize("rate", [0, -0.1, 1.5, math.nan])
def test_impossible_rates(block, rate):
    with pytest.raises(ValueError, match=f"a rate above 0 and at most 1, got {rate}"):
        block(rate=rate)


def test_capture():
    """Both modules update their averages, three times."""
    for make in (PercentileScale, RunningMoments):
        eager, compiled = make(rate=0.5), make(rate=0.5)
        torch.compiler.reset()
        graph = torch.compile(compiled, fullgraph=True, backend="aot_eager")
        for k in range(3):
            torch.testing.assert_close(graph(numbers(k)), eager(numbers(k)))


# ---------------------------------------------------------------------------------- running moments


def test_moments_by_hand():
    moments = RunningMoments(rate=0.5)
    mean, std = moments(torch.tensor([1.0, 3.0]))
    assert (mean.item(), std.item()) == pytest.approx((2, 1))
    mean, std = moments(torch.tensor([5.0]))  # mean (2 + 2·5) / 3, square (5 + 2·25) / 3
    assert (mean.item(), std.item()) == pytest.approx((4, math.sqrt(55 / 3 - 16)))


@given(seeds, st.floats(0.01, 1))
def test_moments_of_a_constant_signal(seed, rate):
    moments, x = RunningMoments(rate=rate), numbers(seed)
    for _ in range(3):
        mean, std = moments(x)
    assert mean.item() == pytest.approx(x.mean().item(), rel=1e-3, abs=1e-4)
    assert std.item() == pytest.approx(x.std(correction=0).item(), rel=1e-3)


def test_moments_have_a_floor_and_only_read_in_eval_mode():
    moments = RunningMoments(floor=0.5)
    assert [x.item() for x in moments.eval()(numbers(0))] == [0, 0.5]
    assert moments.train()(torch.full((3,), 2.0))[1].item() == 0.5
    before = copy.deepcopy(moments.state_dict())
    moments.eval()(numbers(0))
    assert all(torch.equal(moments.state_dict()[key], before[key]) for key in before)
