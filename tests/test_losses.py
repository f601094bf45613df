import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import distributions as td

from worldblocks.distributions import MSE, Normal, OneHot, mixture
from worldblocks.losses import (
    balanced_kl,
    categorical_kl,
    clipped_policy,
    clipped_value,
    gaussian_kl,
    on_rows,
)

seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.01, 0.5, 1.0])


def logits(seed, shape=(2, 3, 5, 4), scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(2, *shape, generator=generator)).unbind(0)


def slow_kl(post, prior, unimix):
    """Probabilities mixed and compared one by one, in float64."""
    p, q = ((1 - unimix) * x.double().softmax(-1) + unimix / x.shape[-1] for x in (post, prior))
    return td.kl_divergence(td.Categorical(p), td.Categorical(q)).sum(-1).float()


def kl(post, prior, free_nats=0.0, unimix=0.0):
    of_post, of_prior = (OneHot(x, unimix=unimix, event=1) for x in (post, prior))
    return balanced_kl(of_post, of_prior, free_nats=free_nats)


# -------------------------------------------------------------------------------------- balanced KL


def test_by_hand():
    """p = (1/2, 1/2), q = (1/4, 3/4) in each of 3 groups: KL = 3 · (ln 2 + ln (2/3)) / 2."""
    post = torch.zeros(1, 3, 2)
    prior = torch.tensor([1.0, 3.0]).log().expand(1, 3, 2)
    expected = torch.tensor([1.5 * (math.log(2) + math.log(2 / 3))])
    for term in kl(post, prior):
        torch.testing.assert_close(term, expected)


def test_unimix_by_hand():
    """Unimix 1/2 turns certainty into (1/4, 3/4)."""
    post, prior = torch.tensor([[[0.0, 99.0]]]), torch.zeros(1, 1, 2)
    expected = torch.tensor([0.25 * math.log(0.5) + 0.75 * math.log(1.5)])
    torch.testing.assert_close(kl(post, prior, unimix=0.5)[0], expected)


@given(seeds, shares)
def test_it_is_the_divergence_of_the_mixtures_summed_over_groups(seed, unimix):
    post, prior = logits(seed)
    dyn, rep = kl(post, prior, unimix=unimix)
    assert dyn.shape == (2, 3)
    torch.testing.assert_close(dyn, slow_kl(post, prior, unimix), rtol=1e-4, atol=1e-5)
    assert torch.equal(dyn, rep)


@given(seeds, shares)
def test_equal_logits_give_the_floor(seed, unimix):
    post, _ = logits(seed)
    for term in kl(post, post.clone(), free_nats=1.25, unimix=unimix):
        assert term.eq(1.25).all()


@given(seeds, st.floats(-3, 3))
def test_a_constant_added_to_logits_changes_nothing(seed, shift):
    post, prior = logits(seed)
    moved = kl(post + shift, prior - shift, unimix=0.01)
    torch.testing.assert_close(moved, kl(post, prior, unimix=0.01), rtol=1e-4, atol=1e-5)


def test_the_floor_is_for_each_element_after_summing_over_groups():
    post, prior = logits(0, (2, 3, 40, 4), scale=0.3)
    raw, _ = kl(post, prior)
    one_group = kl(post[..., :1, :], prior[..., :1, :])[0]
    assert (one_group < 1).all(), "the test needs groups that a floor each would clip"
    assert ((raw > 1) & (raw < 40)).all()
    assert torch.equal(kl(post, prior, free_nats=1.0)[0], raw)
    middle = raw.median().item()
    assert torch.equal(kl(post, prior, free_nats=middle)[0], raw.clamp(min=middle))


def gradients(term, free_nats):
    post, prior = (x.requires_grad_() for x in logits(0))
    value = kl(post, prior, free_nats=free_nats, unimix=0.01)[term]
    grads = torch.autograd.grad(value.sum(), (post, prior), allow_unused=True)
    return value, [torch.zeros_like(post) if g is None else g for g in grads]


def test_dyn_trains_the_prior_and_rep_the_posterior():
    _, (post, prior) = gradients(0, 0.0)
    assert post.eq(0).all()
    assert prior.ne(0).any()
    _, (post, prior) = gradients(1, 0.0)
    assert post.ne(0).any()
    assert prior.eq(0).all()


def test_the_two_gradients_add_up_to_that_of_the_plain_divergence():
    post, prior = (x.requires_grad_() for x in logits(0))
    whole = torch.autograd.grad(slow_kl(post, prior, 0.01).sum(), (post, prior))
    parts = torch.autograd.grad(sum(kl(post, prior, unimix=0.01)).sum(), (post, prior))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("term", [0, 1])
def test_a_clipped_element_has_gradient_exactly_zero(term):
    middle = gradients(term, 0.0)[0].median().item() + 1e-3
    value, grads = gradients(term, middle)
    clipped = value == middle
    assert clipped.any()
    assert not clipped.all()
    trained = grads[1 - term]
    assert trained[clipped].eq(0).all()
    assert trained[~clipped].ne(0).any(-1).any(-1).all()


def test_extreme_logits_stay_finite():
    big = 1e30 * torch.eye(4).expand(3, 5, 4, 4)
    post, prior = big.clone().requires_grad_(), (-big).requires_grad_()
    dyn, rep = kl(post, prior, unimix=0.01)
    assert (dyn.isfinite() & rep.isfinite()).all()
    assert 4 < dyn[0, 0].item() < 4 * math.log(400)
    for gradient in torch.autograd.grad((dyn + rep).sum(), (post, prior)):
        assert gradient.isfinite().all()
    small = kl(1e-30 * post, 1e-30 * prior, unimix=0.01)[0]
    assert small.abs().max() < 12


def test_a_nan_stays_in_its_element():
    post, prior = logits(0)
    post[1, 2, 0, 0] = math.nan
    for term in kl(post, prior, free_nats=1.0, unimix=0.01):
        assert term.isnan().nonzero().tolist() == [[1, 2]]


def test_bfloat16_logits_are_compared_in_float32():
    post, prior = (x.bfloat16() for x in logits(0))
    with torch.autocast("cpu", torch.bfloat16):
        dyn, _ = kl(post, prior, unimix=0.01)
    assert dyn.dtype == torch.float32
    torch.testing.assert_close(dyn, slow_kl(post, prior, 0.01), rtol=1e-4, atol=1e-5)


def test_flat_logits_are_refused():
    post, prior = logits(0, (64, 16))
    message = (
        r"at least one batch axis, got OneHot of shape \(64, 16\), event=1; "
        r".*unflatten\(-1, \(groups, classes\)\)"
    )
    with pytest.raises(ValueError, match=message):
        kl(post, prior)


@pytest.mark.parametrize("make", [OneHot, lambda x: Normal(x, x.exp())], ids=["one-hot", "normal"])
def test_a_floor_for_each_group_is_refused(make):
    """Without event axes each group or number would be clipped alone."""
    post, prior = map(make, logits(0))
    message = rf"sums over a latent .*, got {type(post).__name__} without event axes; use event=1"
    with pytest.raises(ValueError, match=message):
        balanced_kl(post, prior, free_nats=1.0)


def test_nothing_broadcasts():
    post = torch.zeros(3, 5, 4, 2)
    with pytest.raises(
        ValueError, match=r"shape \(3, 5, 4, 2\) was given .* \(5, 4, 2\); they must"
    ):
        kl(post, post[0])
    with pytest.raises(ValueError, match=r"was given a distribution of shape \(3, 5, 2, 4\)"):
        kl(post, post.transpose(-1, -2))


def test_what_is_no_distribution():
    post, prior = logits(0)
    with pytest.raises(TypeCheckError, match=r"post should be Output, got float32.*; wrap it"):
        balanced_kl(post, prior, free_nats=1.0)
    with pytest.raises(AttributeError, match="MSE has no 'kl'; it has mean, nll"):
        balanced_kl(MSE(post, event=1), MSE(prior, event=1), free_nats=1.0)


def test_the_softmax_of_each_is_computed_once(monkeypatch):
    """Both losses and both entropies read the same numbers."""
    calls = []
    softmax = mixture.softmax
    monkeypatch.setattr(mixture, "softmax", lambda x: calls.append(x) or softmax(x))
    post, prior = (OneHot(x, unimix=0.01, event=1) for x in logits(0))
    balanced_kl(post, prior, free_nats=1.0)
    _ = post.entropy(), prior.entropy()
    assert len(calls) == 2


@pytest.mark.parametrize("unimix", [-0.01, 1.5])
def test_an_impossible_unimix(unimix):
    with pytest.raises(ValueError, match=f"unimix must be between 0 and 1, got {unimix}"):
        kl(*logits(0), unimix=unimix)


def test_capture(same_when_compiled):
    same_when_compiled(lambda a, b: kl(a, b, free_nats=5.0, unimix=0.01), *logits(0))
    same_when_compiled(lambda a, b: gaussians(a, b, free_nats=5.0), *logits(0))


# ------------------------------------------------------------------------- balanced KL of Gaussians


def gaussians(post, prior, free_nats=0.0):
    """Normals with means and standard deviations from the two halves of each array."""
    pairs = (x.chunk(2, -1) for x in (post, prior))
    of_post, of_prior = (Normal(mean, 0.1 + raw.exp(), event=2) for mean, raw in pairs)
    return balanced_kl(of_post, of_prior, free_nats=free_nats)


def test_gaussians_by_hand():
    """Means 1 apart in each of 3 entries, standard deviation 1: 3 · 1/2 nats."""
    one, zero = torch.ones(1, 3), torch.zeros(1, 3)
    post, prior = Normal(one, one, event=1), Normal(zero, one, event=1)
    assert [term.item() for term in balanced_kl(post, prior, free_nats=0.0)] == [1.5, 1.5]
    assert [term.item() for term in balanced_kl(post, prior, free_nats=3.0)] == [3.0, 3.0]


@given(seeds)
def test_gaussians_are_compared_as_torch_does(seed):
    post, prior = logits(seed)
    dyn, rep = gaussians(post, prior)
    pairs = (x.double().chunk(2, -1) for x in (post, prior))
    expected = td.kl_divergence(*(td.Normal(mean, 0.1 + raw.exp()) for mean, raw in pairs))
    torch.testing.assert_close(dyn, expected.sum((-2, -1)).float(), rtol=1e-4, atol=1e-4)
    assert torch.equal(dyn, rep)


def test_gaussians_train_one_side_each_and_nothing_below_the_floor():
    post, prior = (x.requires_grad_() for x in logits(0))
    middle = gaussians(post, prior)[0].median().item() + 1e-3
    for term, trained, other in ((0, prior, post), (1, post, prior)):
        value = gaussians(post, prior, free_nats=middle)[term]
        clipped = value == middle
        assert clipped.any()
        assert not clipped.all()
        grads = torch.autograd.grad(value.sum(), (trained, other), allow_unused=True)
        assert grads[1] is None or grads[1].eq(0).all()
        assert grads[0][clipped].eq(0).all()
        assert grads[0][~clipped].ne(0).any(-1).any(-1).all()


# -------------------------------------------------------------------------------- plain divergences


@given(seeds, shares)
def test_categorical_kl(seed, unimix):
    p, q = logits(seed)
    expected = slow_kl(p.unsqueeze(-2), q.unsqueeze(-2), unimix)
    ours = categorical_kl(p, q, unimix=unimix)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert categorical_kl(p, p).eq(0).all()


def test_categorical_kl_of_flat_logits_is_one_for_each_row():
    assert categorical_kl(*logits(0, (64, 16))).shape == (64,)


@given(seeds)
def test_gaussian_kl(seed):
    mean, other = logits(seed, (3, 5))
    std, other_std = (x.exp() for x in logits(seed + 1, (3, 5), scale=0.5))
    expected = td.kl_divergence(td.Normal(mean, std), td.Normal(other, other_std))
    ours = gaussian_kl(mean, std, other, other_std)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    assert gaussian_kl(mean, std, mean, std).eq(0).all()


def test_gaussian_kl_by_hand():
    ours = gaussian_kl(*(torch.tensor([x]) for x in (3.0, 2.0, 1.0, 4.0)))
    assert ours.item() == pytest.approx(math.log(2) + (4 + 4) / 32 - 0.5)


def test_a_standard_deviation_does_not_broadcast():
    x = torch.ones(3, 5)
    with pytest.raises(
        TypeCheckError,
        match=r"other_std should be .*got float32\[5\]; its axis .*nothing broadcasts",
    ):
        gaussian_kl(x, x, x, x[0])


def test_capture_of_the_plain_divergences(same_when_compiled):
    same_when_compiled(lambda a, b: categorical_kl(a, b, unimix=0.01), *logits(0))
    mean, std = logits(0, (3, 5))
    same_when_compiled(lambda a, b: gaussian_kl(a, b.exp(), b, a.exp()), mean, std)


def test_a_loss_on_rows_by_hand():
    """Two of four rows, so that each counts twice; a mask over first axes selects whole rows."""
    x, rows = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([True, False, True, False])
    assert on_rows(x, rows).tolist() == [2.0, 0.0, 8.0, 0.0]
    assert on_rows(x.view(2, 2), torch.tensor([False, True])).tolist() == [[0, 0], [8, 16]]
    assert on_rows(x, None) is x


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_the_mean_of_a_loss_on_rows_is_that_of_the_rows(chosen):
    rows = torch.tensor(chosen)
    x = torch.linspace(-1, 2, len(chosen)).requires_grad_()
    mean = on_rows(x, rows).mean()
    expected = x[rows].mean() if any(chosen) else torch.zeros(())
    torch.testing.assert_close(mean, expected)
    mean.backward()
    assert not x.grad[~rows].any()


def test_a_loss_on_rows_compiles(same_when_compiled):
    rows = torch.tensor([True, False, True])
    same_when_compiled(lambda x: on_rows(x, rows), torch.randn(3, 4))


def test_rows_of_another_loss():
    with pytest.raises(ValueError, match=r"got rows of shape \(2,\) for a loss of shape"):
        on_rows(torch.zeros(3), torch.ones(2, dtype=torch.bool))


# -------------------------------------------------------------------------------------- PPO


def test_clipped_policy_by_hand():
    """Ratios 3/2 and 1/2 with clip 1/5, each with a positive and a negative advantage."""
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0])
    loss = clipped_policy(ratio.log(), torch.zeros(5), advantage, clip=0.2)
    torch.testing.assert_close(loss, torch.tensor([-2.4, 3.0, -1.0, 1.6, -2.2]))


def test_clipped_policy_has_no_gradient_where_it_would_gain_by_going_on():
    log_prob = torch.tensor([1.5, 1.5, 0.5, 0.5]).log().requires_grad_()
    advantage = torch.tensor([2.0, -2.0, 2.0, -2.0])
    clipped_policy(log_prob, torch.zeros(4), advantage, clip=0.2).sum().backward()
    torch.testing.assert_close(log_prob.grad, torch.tensor([0.0, 3.0, -1.0, 0.0]))


@given(seeds)
def test_the_first_ppo_gradient_is_that_of_the_policy_gradient(seed):
    torch.manual_seed(seed)
    log_prob, advantage = (-torch.rand(2, 5)).requires_grad_(), torch.randn(2, 5)
    value, target = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5)
    loss = clipped_policy(log_prob, log_prob, advantage, clip=0.2)
    loss = loss + clipped_value(value, value, target, clip=0.2)
    loss.sum().backward()
    torch.testing.assert_close(log_prob.grad, -advantage)
    torch.testing.assert_close(value.grad, 2 * (value - target).detach())


def test_clipped_value_by_hand():
    """A value that moved from 0 to 1 counts as 0.5 for target 3, and as 1 for target -1."""
    one, zero = torch.ones(3), torch.zeros(3)
    loss = clipped_value(one, zero, torch.tensor([3.0, -1.0, 0.5]), clip=0.5)
    torch.testing.assert_close(loss, torch.tensor([6.25, 4.0, 0.25]))


def test_ppo_gives_no_gradient_to_old_figures_and_stays_single_under_autocast():
    new, old, third = (torch.zeros(4, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        loss = clipped_policy(new, old, third, clip=0.2) + clipped_value(new, old, third, clip=0.2)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert old.grad is None
    assert third.grad is None


@pytest.mark.parametrize("loss", [clipped_policy, clipped_value])
def test_ppo_compiles(loss, same_when_compiled):
    x = torch.randn(3, 2, 5)
    same_when_compiled(lambda a, b, c: loss(a, b, c, clip=0.2), *x.unbind())


@pytest.mark.parametrize("loss", [clipped_policy, clipped_value])
def test_ppo_needs_a_clip(loss):
    with pytest.raises(ValueError, match=r"takes a clip above 0, got 0.0; PPO's is 0.2"):
        loss(*torch.zeros(3, 2), clip=0.0)
