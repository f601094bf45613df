"""`kl` and `detach` of outputs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as td

from worldblocks import distributions as dists

seeds = st.integers(0, 2**32 - 1)


def pair(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator).unbind(0)


# ----------------------------------------------------------------------------------------------- kl


def test_one_hots_by_hand():
    """(1/2, 1/2) against (1/4, 3/4), twice: ln 2 + ln (2/3)."""
    one = dists.OneHot(torch.zeros(1, 2, 2), event=1)
    other = dists.OneHot(torch.tensor([1.0, 3.0]).log().expand(1, 2, 2), event=1)
    assert one.kl(other).item() == pytest.approx(math.log(2) + math.log(2 / 3))
    assert other.kl(one).item() == pytest.approx(0.5 * math.log(0.5) + 1.5 * math.log(1.5))


def test_normals_by_hand():
    """N(3, 2²) against N(1, 4²): ln 2 + (4 + 4) / 32 - 1/2."""
    one, other = (dists.Normal(*map(torch.tensor, x)) for x in ((3.0, 2.0), (1.0, 4.0)))
    assert one.kl(other).item() == pytest.approx(math.log(2) + 8 / 32 - 0.5)


@given(seeds, st.sampled_from([0.0, 0.01, 0.5]), st.integers(0, 2))
def test_one_hots_agree_with_torch(seed, unimix, event):
    logits = pair(seed, (2, 3, 5, 4))
    ours = [dists.OneHot(x, unimix=unimix, event=event) for x in logits]
    probs = [(1 - unimix) * x.double().softmax(-1) + unimix / 4 for x in logits]
    expected = td.kl_divergence(*(td.Independent(td.Categorical(p), event) for p in probs))
    torch.testing.assert_close(ours[0].kl(ours[1]), expected.float(), rtol=1e-4, atol=1e-5)
    assert ours[0].kl(ours[0]).eq(0).all()


@given(seeds, st.integers(0, 2))
def test_normals_agree_with_torch(seed, event):
    means, raws = pair(seed, (2, 3, 5)), pair(seed + 1, (2, 3, 5))
    given_ = list(zip(means, [x.exp() for x in raws], strict=True))
    ours = [dists.Normal(*x, event=event) for x in given_]
    reference = [td.Normal(*(x.double() for x in pair_)) for pair_ in given_]
    expected = td.kl_divergence(*(td.Independent(x, event) for x in reference))
    torch.testing.assert_close(ours[0].kl(ours[1]), expected.float(), rtol=1e-4, atol=1e-5)
    assert ours[0].kl(ours[0]).eq(0).all()


def test_a_bounded_normal_is_a_normal():
    mean, raw = pair(0, (3, 5))
    bounded = dists.BoundedNormal(mean, raw, event=1)
    plain = dists.Normal(bounded.mean, bounded.std, event=1)
    assert bounded.kl(plain).eq(0).all()
    assert plain.kl(bounded).eq(0).all()


def test_an_impossible_class_adds_nothing():
    logits = torch.tensor([[0.0, 1.0, -math.inf]], requires_grad=True)
    kl = dists.OneHot(logits).kl(dists.OneHot(torch.zeros(1, 3)))
    assert kl.isfinite().all()
    assert torch.autograd.grad(kl.sum(), logits)[0].isfinite().all()


def test_a_slice_has_the_divergence_of_the_whole():
    post, prior = (dists.OneHot(x, unimix=0.01, event=1) for x in pair(0, (2, 3, 5, 4)))
    torch.testing.assert_close(post[:, 1:].kl(prior[:, 1:]), post.kl(prior)[:, 1:])


def one_hot(**options):
    return dists.OneHot(torch.zeros(3, 5, 4), **{"unimix": 0.01, "event": 1, **options})


NORMAL = dists.Normal(torch.zeros(3, 5), torch.ones(3, 5), event=1)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (NORMAL, TypeError, "OneHot.kl compares with another OneHot, got Normal"),
        (one_hot(unimix=0.0), ValueError, "with the same unimix, got 0.01 and 0.0"),
        (one_hot(event=2), ValueError, "with 1 and 2 event axes cannot be compared; give both"),
        (
            one_hot()[:1],
            ValueError,
            r"shape \(3, 5, 4\) was given a distribution of shape \(1, 5, 4\); ",
        ),
    ],
    ids=["kind", "unimix", "event", "shape"],
)
def test_what_cannot_be_compared(other, error, message):
    with pytest.raises(error, match=message):
        one_hot().kl(other)


def test_what_normals_cannot_be_compared_with():
    with pytest.raises(TypeError, match="compares with another Normal, got OneHot"):
        NORMAL.kl(one_hot())
    with pytest.raises(
        ValueError, match=r"Normal of shape \(3, 5\) was given a distribution of shape"
    ):
        NORMAL.kl(NORMAL[:2])


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_capture_of_one_hots(same_when_compiled, unimix):
    def kl(a, b):
        return dists.OneHot(a, unimix=unimix, event=1).kl(dists.OneHot(b, unimix=unimix, event=1))

    same_when_compiled(kl, *pair(0, (2, 5, 4)))


def test_capture_of_normals(same_when_compiled):
    same_when_compiled(
        lambda a, b: dists.Normal(a, b.exp(), event=1).kl(dists.Normal(b, a.exp(), event=1)),
        *pair(0, (2, 5)),
    )


# ------------------------------------------------------------------------------------------- detach

OUTPUTS = {
    "OneHot": lambda x: dists.OneHot(x, unimix=0.01, event=1),
    "TwoHot": lambda x: dists.TwoHot(x, torch.arange(4.0)),
    "Normal": lambda x: dists.Normal(x, x.exp(), event=1),
    "BoundedNormal": lambda x: dists.BoundedNormal(x, x, event=1),
    "Bernoulli": dists.Bernoulli,
    "MSE": dists.MSE,
    "SigmoidImageMSE": dists.SigmoidImageMSE,
    "Joint": lambda x: dists.Joint({"keys": dists.OneHot(x, event=1)}),
}


@pytest.mark.parametrize("make", OUTPUTS.values(), ids=OUTPUTS)
def test_a_detached_output_has_the_same_numbers_and_no_history(make):
    output = make(torch.randn(2, 3, 5, 4, requires_grad=True))
    detached = output.detach()
    assert type(detached) is type(output)
    assert torch.equal(detached.mean, output.mean)
    assert not detached.mean.requires_grad
    assert output.mean.requires_grad
    if hasattr(type(output), "entropy"):
        assert torch.equal(detached.entropy(), output.entropy())
        assert not detached.entropy().requires_grad
