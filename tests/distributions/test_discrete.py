import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as td

from worldblocks.distributions import Bernoulli, OneHot, TwoHot, inverse_cdf, mix_uniform, modes
from worldblocks.transforms import symexp_bins, two_hot, two_hot_mean

seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.01, 0.5, 1.0])


def logits(seed, shape=(2, 5, 3, 4), scale=2.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def five_sigma(probability, draws):
    """A correct sampler exceeds this error once in about two million comparisons."""
    return 5 * (probability * (1 - probability) / draws).sqrt() + 1e-9


# ------------------------------------------------------------------------------------------- unimix


def test_unimix_by_hand():
    log, probs = mix_uniform(torch.tensor([1.0, 3.0]).log(), 0.2)
    torch.testing.assert_close(probs, torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(log, torch.tensor([0.3, 0.7]).log())


@given(seeds, shares)
def test_unimix_is_a_distribution_with_a_floor(seed, unimix):
    log, probs = mix_uniform(logits(seed), unimix)
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, 5, 3))
    torch.testing.assert_close(log.exp(), probs)
    assert (probs >= unimix / 4 - 1e-7).all()


def test_unimix_one_is_uniform():
    assert mix_uniform(logits(0), 1.0)[1].eq(0.25).all()


@pytest.mark.parametrize("unimix", [1.01, -0.5, math.nan])
def test_an_impossible_unimix(unimix):
    with pytest.raises(ValueError, match=f"unimix must be between 0 and 1, got {unimix}"):
        OneHot(logits(0), unimix=unimix)


# ------------------------------------------------------------------------------------------ one-hot


def test_one_hot_by_hand():
    out = OneHot(torch.tensor([[1.0, 1.0], [1.0, 3.0]]).log(), event=1)
    torch.testing.assert_close(out.mean, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert out.nll(target).item() == pytest.approx(-math.log(0.5 * 0.75))
    entropy = math.log(2) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert out.entropy().item() == pytest.approx(entropy)
    assert out.mode.tolist() == [[1, 0], [0, 1]]


@given(seeds, shares, st.sampled_from([0, 1, 2]))
def test_one_hot_agrees_with_torch(seed, unimix, event):
    x = logits(seed)
    out = OneHot(x, unimix=unimix, event=event)
    probs = (1 - unimix) * x.double().softmax(-1) + unimix / 4
    theirs = td.Independent(td.OneHotCategorical(probs), event)
    sample = out.sample()
    torch.testing.assert_close(out.entropy(), theirs.entropy().float(), rtol=1e-4, atol=1e-5)
    expected = theirs.log_prob(sample.double()).float()
    torch.testing.assert_close(out.log_prob(sample), expected, rtol=1e-4, atol=1e-5)


@given(seeds)
def test_a_soft_target_is_a_cross_entropy(seed):
    x, target = logits(seed), logits(seed + 1).softmax(-1)
    expected = -(target * x.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(OneHot(x).nll(target), expected)


@given(seeds)
def test_a_sample_is_one_hot(seed):
    torch.manual_seed(seed)
    sample = OneHot(logits(seed).requires_grad_(), unimix=0.01).sample()
    assert sample.sum(-1).eq(1).all()
    assert ((sample == 0) | (sample == 1)).all(), "the straight-through term is exactly zero"


def test_noise_decides_by_the_cumulative_probabilities():
    out = OneHot(torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(7, 4))
    noise = torch.tensor([0.0, 0.09, 0.11, 0.29, 0.31, 0.61, 1 - 2**-24])
    assert out.sample(noise).argmax(-1).tolist() == [0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("unimix", [0.0, 0.3])
def test_frequencies_match_the_probabilities(unimix):
    draws, x = 40_000, torch.tensor([0.0, 1.0, -2.0, 0.5, 2.5])
    out = OneHot(x.expand(draws, 5), unimix=unimix)
    frequency = out.sample().mean(0)
    assert ((frequency - out.probs[0]).abs() < five_sigma(out.probs[0], draws)).all()


@given(seeds, st.sampled_from([2, 4, 8, 9]))
def test_a_draw_does_not_depend_on_where_the_classes_lie_in_memory(seed, classes):
    """`softmax` leaves few classes first in memory, and sampling handles both layouts."""
    probs = logits(seed, (5, 3, classes)).softmax(-1)
    noise = torch.rand(5, 3, 1)
    apart = probs.movedim(-1, 0).contiguous().movedim(0, -1)
    assert apart.stride() != probs.stride()
    expected = (noise >= probs.cumsum(-1)[..., :-1] / probs.sum(-1, keepdim=True)).sum(-1)
    near = (noise - probs.cumsum(-1) / probs.sum(-1, keepdim=True)).abs().min(-1).values < 1e-6
    for given_ in (probs, apart):
        drawn = inverse_cdf(given_, noise)
        assert drawn.shape == noise.shape
        assert ((drawn[..., 0] == expected) | near).all()


def test_a_class_of_probability_zero_is_never_drawn():
    out = OneHot(torch.tensor([-math.inf, 0.0, -math.inf, 1.0]).expand(500, 4))
    assert out.sample().sum(0)[[0, 2]].eq(0).all()
    assert out.sample(torch.zeros(500)).argmax(-1).eq(1).all()
    last = OneHot(torch.cat([torch.randn(500, 6), torch.full((500, 1), -math.inf)], -1))
    assert last.sample(torch.full((500,), 1 - 2**-24))[:, -1].eq(0).all()


def test_classes_that_are_not_allowed_leave_entropy_and_gradient_finite():
    x = torch.tensor([-math.inf, 0.0, 0.0], requires_grad=True)
    out = OneHot(x)
    assert out.entropy().item() == pytest.approx(math.log(2))
    assert out.log_prob(torch.tensor([0.0, 1, 0])).item() == pytest.approx(-math.log(2))
    assert out.log_prob(torch.tensor([1.0, 0, 0])) < -1e30
    (out.entropy() + out.log_prob(torch.tensor([0.0, 1, 0]))).backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 0.5, -0.5]))


@pytest.mark.parametrize("unimix", [0.0, 0.01])
@pytest.mark.parametrize("door", ["sample", "mode", "sample in modes"])
def test_the_gradient_of_a_sample_is_that_of_the_mixed_probabilities(unimix, door):
    x, weight = logits(0).requires_grad_(), logits(1)
    out = OneHot(x, unimix=unimix)
    if door == "sample in modes":
        with modes():
            sample = out.sample()
    else:
        sample = out.mode if door == "mode" else out.sample()
    assert not torch.equal(sample, out.probs)
    probs = (1 - unimix) * x.softmax(-1) + unimix / 4
    ours, expected = (
        torch.autograd.grad((v * weight).sum(), x, retain_graph=True)[0] for v in (sample, probs)
    )
    torch.testing.assert_close(ours, expected)


def test_without_gradient_a_sample_has_none():
    assert not OneHot(logits(0)).sample().requires_grad
    with torch.no_grad():
        assert not OneHot(logits(0).requires_grad_()).sample().requires_grad


def test_the_score_gradient_is_one_hot_minus_probabilities():
    x = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    OneHot(x).log_prob(torch.tensor([0.0, 0, 1])).backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 0, 1]) - x.detach().softmax(-1))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_extreme_logits(scale, unimix):
    x = (scale * torch.tensor([-1.0, 0.0, 1.0])).requires_grad_()
    out = OneHot(x, unimix=unimix)
    (out.entropy() + out.log_prob(out.mode.detach())).backward()
    assert (out.entropy().isfinite(), x.grad.isfinite().all()) == (True, True)


def test_half_precision_logits_are_softened_in_float32():
    x = logits(0).bfloat16()
    torch.testing.assert_close(OneHot(x).probs, x.float().softmax(-1))


def test_indices_are_no_one_hots():
    with pytest.raises(
        ValueError, match=r"one-hot vectors of shape \(5, 4\), got indices .*\(5,\)"
    ):
        OneHot(torch.zeros(5, 4)).nll(torch.zeros(5, dtype=torch.int64))


# ------------------------------------------------------------------------------------------ two-hot


def test_two_hot_by_hand():
    out = TwoHot(torch.tensor([1.0, 2.0, 5.0]).log(), torch.tensor([-1.0, 0.0, 2.0]))
    assert out.mean.item() == pytest.approx(9 / 8)
    assert out.mode == 2
    expected = -(0.75 * math.log(2 / 8) + 0.25 * math.log(5 / 8))
    assert out.nll(torch.tensor(0.5)).item() == pytest.approx(expected)
    assert out.nll(torch.tensor(7.0)).item() == pytest.approx(-math.log(5 / 8))


@given(seeds, st.floats(-(2.0**100), 2.0**100, width=32))
def test_its_loss_is_the_cross_entropy_with_the_two_hot(seed, value):
    bins = symexp_bins(7)
    x, target = logits(seed, (3, 7)), torch.full((3,), value)
    expected = -(two_hot(target, bins) * x.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(TwoHot(x, bins).nll(target), expected)


@given(seeds)
def test_its_mean_is_the_two_hot_mean(seed):
    x, bins = logits(seed, (3, 255)), symexp_bins(255)
    assert torch.equal(TwoHot(x, bins).mean, two_hot_mean(x.softmax(-1), bins))
    torch.testing.assert_close(
        TwoHot(x, bins).entropy(), td.Categorical(logits=x).entropy(), rtol=1e-4, atol=1e-5
    )


def test_equal_logits_have_mean_zero():
    assert TwoHot(torch.zeros(3, 255), symexp_bins(255)).mean.tolist() == [0, 0, 0]


def test_training_on_a_number_leads_to_its_mean():
    """The gradient of the loss vanishes where the softmax is the two-hot of the target."""
    bins, target = torch.linspace(-3, 3, 7), torch.tensor([1.25])
    x = two_hot(target, bins).clamp(min=1e-30).log().requires_grad_()
    out = TwoHot(x, bins)
    out.nll(target).backward()
    assert out.mean.item() == pytest.approx(1.25)
    torch.testing.assert_close(x.grad, torch.zeros(1, 7), rtol=0, atol=1e-6)


def test_a_sample_is_a_bin_and_matches_the_probabilities():
    draws, bins = 40_000, torch.tensor([-5.0, 0.0, 1.0, 3.0])
    x = torch.tensor([0.0, 1.0, -1.0, 0.5])
    sample = TwoHot(x.expand(draws, 4), bins).sample()
    frequency = (sample[:, None] == bins).float().mean(0)
    assert ((frequency - x.softmax(-1)).abs() < five_sigma(x.softmax(-1), draws)).all()
    noise = torch.tensor([0.0, 0.999])
    assert TwoHot(x.expand(2, 4), bins).sample(noise).tolist() == [-5, 3]


def test_a_nan_target_gives_a_nan_loss():
    out = TwoHot(torch.zeros(2, 5), symexp_bins(5))
    assert out.nll(torch.tensor([math.nan, 1.0])).isnan().tolist() == [True, False]


@pytest.mark.parametrize("value", [1e30, -1e30, 1e-30, math.inf, -math.inf])
def test_extreme_targets(value):
    x = torch.zeros(1, 255, requires_grad=True)
    loss = TwoHot(x, symexp_bins(255)).nll(torch.tensor([value]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(255))
    assert x.grad.isfinite().all()


def test_logits_of_another_number_of_bins():
    message = r"TwoHot needs one logit per bin for 7 bins, got logits of shape \(3, 5\)"
    with pytest.raises(ValueError, match=message):
        TwoHot(torch.zeros(3, 5), symexp_bins(7))


# ---------------------------------------------------------------------------------------- Bernoulli


def test_bernoulli_by_hand():
    out = Bernoulli(torch.tensor([0.0, math.log(3)]), event=1)
    torch.testing.assert_close(out.mean, torch.tensor([0.5, 0.75]))
    assert out.mode.tolist() == [0, 1]
    assert out.nll(torch.tensor([1.0, 0.0])).item() == pytest.approx(math.log(2) + math.log(4))


@given(seeds)
def test_bernoulli_agrees_with_torch(seed):
    x = logits(seed, (5, 3))
    theirs = td.Independent(td.Bernoulli(logits=x), 1)
    sample = Bernoulli(x, event=1).sample()
    torch.testing.assert_close(Bernoulli(x, event=1).log_prob(sample), theirs.log_prob(sample))
    torch.testing.assert_close(Bernoulli(x, event=1).entropy(), theirs.entropy())


@given(seeds, st.floats(0, 1))
def test_a_soft_target_lies_in_between(seed, share):
    out = Bernoulli(logits(seed, (5,)))
    ends = out.nll(torch.zeros(5)), out.nll(torch.ones(5))
    torch.testing.assert_close(out.nll(torch.full((5,), share)), torch.lerp(*ends, share))


def test_the_loss_is_least_at_the_target_probability():
    """The continue head regresses γ: its gradient is `mean - target`."""
    x = torch.tensor([1.5], requires_grad=True)
    Bernoulli(x).nll(torch.tensor([0.997])).backward()
    torch.testing.assert_close(x.grad, x.detach().sigmoid() - 0.997)


def test_bernoulli_frequencies_and_noise():
    draws, x = 40_000, torch.tensor([-2.0, 0.0, 1.0])
    frequency = Bernoulli(x.expand(draws, 3)).sample().mean(0)
    assert ((frequency - x.sigmoid()).abs() < five_sigma(x.sigmoid(), draws)).all()
    assert Bernoulli(torch.zeros(2)).sample(torch.tensor([0.49, 0.5])).tolist() == [1, 0]


def test_flags_are_targets_too():
    assert Bernoulli(torch.zeros(1)).nll(torch.tensor([True])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("logit", [1e30, -1e30, 1e-30])
def test_extreme_bernoulli(logit):
    x = torch.tensor([logit], requires_grad=True)
    out = Bernoulli(x)
    (out.nll(out.mode) + out.entropy()).backward()
    assert (out.entropy().isfinite().all(), x.grad.isfinite().all()) == (True, True)
