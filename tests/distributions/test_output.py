"""Behaviour of all outputs: slices, event axes, errors, and sampling."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks import distributions as dists
from worldblocks.transforms import symexp_bins

BATCH = (2, 5)


def make(kind, batch=BATCH):
    """An output of each kind and a target; 3 is the event axis, 7 the classes or bins."""
    x, y = torch.randn(2, *batch, 3)
    logits = torch.randn(*batch, 3, 7)
    onehot = torch.eye(7)[torch.randint(7, (*batch, 3))]
    if kind == "MSE":
        return dists.MSE(x, event=1), y
    if kind == "SymlogMSE":
        return dists.SymlogMSE(x, event=1), y
    if "Image" in kind:
        pixels = torch.randint(256, (*batch, 4, 6, 3), dtype=torch.uint8)
        return getattr(dists, kind)(torch.rand(*batch, 4, 6, 3)), pixels
    if kind == "OneHot":
        return dists.OneHot(logits, unimix=0.01, event=1), onehot
    if kind == "TwoHot":
        return dists.TwoHot(logits[..., 0, :], symexp_bins(7)), 100 * y[..., 0]
    if kind == "Bernoulli":
        return dists.Bernoulli(x, event=1), y.sigmoid()
    if kind == "Normal":
        return dists.Normal(x, y.exp(), event=1), x + y
    if kind == "BoundedNormal":
        return dists.BoundedNormal(x, y, event=1), x + y
    parts = {"a": dists.OneHot(logits, event=1), "b": dists.Normal(x, y.exp(), event=1)}
    return dists.Joint(parts), torch.cat([onehot.flatten(-2), x + y], -1)


REGRESSIONS = ["MSE", "SymlogMSE", "ImageMSE", "SigmoidImageMSE"]
DISTRIBUTIONS = ["OneHot", "TwoHot", "Bernoulli", "Normal", "BoundedNormal", "Joint"]
every = pytest.mark.parametrize("kind", REGRESSIONS + DISTRIBUTIONS)
every_distribution = pytest.mark.parametrize("kind", DISTRIBUTIONS)

INDICES = [
    0,
    slice(1, None),
    (slice(None), -1),
    (slice(None), slice(None, -1)),
    (1, 3),
    (..., 0),
    (0, ...),
    (slice(None), ..., slice(None, None, 2)),
    (None, 0),
    (slice(None), torch.tensor([4, 0, 0])),
    torch.tensor([[True, False, True, False, False], [False, True, True, True, False]]),
    (),
]


@every
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_an_output_slices_like_the_tensor_of_its_batch_axes(kind, index):
    output, target = make(kind)
    rows = torch.arange(10).view(BATCH)
    chosen = output[index]
    assert type(chosen) is type(output)
    expected = output.nll(target).flatten()[rows[index]]
    torch.testing.assert_close(chosen.nll(target.flatten(0, 1)[rows[index]]), expected)
    assert torch.equal(chosen.mean, output.mean.flatten(0, 1)[rows[index]])


@every
@given(first=st.slices(2), second=st.slices(5))
def test_any_slices(kind, first, second):
    output, target = make(kind)
    if 0 in (first.step, second.step) or (first.step or 1) < 0 or (second.step or 1) < 0:
        return  # tensors have no such slices
    index = first, second
    torch.testing.assert_close(output[index].nll(target[index]), output.nll(target)[index])


@every
def test_an_event_axis_cannot_be_indexed_away(kind):
    output, _ = make(kind)
    for index in ((0, 0, 0), (slice(None), slice(None), 0), (..., 0, 0, 0)):
        with pytest.raises(IndexError, match="too many indices"):
            output[index]


@every
def test_the_loss_of_a_sum_is_the_sum_of_losses(kind):
    """`nll` has shape `*batch`: elements of the batch do not mix."""
    output, target = make(kind)
    losses = output.nll(target)
    assert (losses.shape, losses.dtype) == (BATCH, torch.float32)
    torch.testing.assert_close(losses[1, 3], output[1, 3].nll(target[1, 3]))


@every
def test_a_target_that_would_broadcast_is_refused(kind):
    output, target = make(kind)
    name = kind if kind != "Joint" else "OneHot"
    for wrong in (target[:1], target[0], target[:, :1]):
        with pytest.raises(ValueError, match=rf"{name} of shape \(2, 5.*nothing broadcasts"):
            output.nll(wrong)


@every_distribution
def test_a_value_that_would_broadcast_is_refused(kind):
    output, target = make(kind)
    with pytest.raises(ValueError, match=r"was given a value of shape \(1, 5.*nothing broadcasts"):
        output.log_prob(target[:1])


@every
def test_bfloat16_autocast_changes_nothing(kind):
    output, target = make(kind)
    loss = output.nll(target)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(output.nll(target), loss, rtol=0, atol=0)


@every_distribution
def test_a_sample_has_the_shape_of_a_value(kind):
    output, target = make(kind)
    assert output.sample().shape == output.mode.shape == target.shape
    assert output.log_prob(output.sample()).shape == output.entropy().shape == BATCH


@every_distribution
def test_nll_is_the_negative_log_probability(kind):
    output, target = make(kind)
    assert torch.equal(output.nll(target), -output.log_prob(target))


@every
def test_no_gradient_flows_into_a_target(kind):
    output, target = make(kind)
    if target.is_floating_point():
        assert not output.nll(target.requires_grad_()).requires_grad


@every_distribution
def test_samples_come_from_the_default_generator(kind):
    output, _ = make(kind)
    torch.manual_seed(1)
    first = output.sample()
    torch.manual_seed(1)
    assert torch.equal(output.sample(), first)


@every_distribution
def test_in_modes_every_sample_is_the_mode(kind):
    output, _ = make(kind)
    with dists.modes():
        assert torch.equal(output.sample(), output.mode)
        with dists.modes():
            pass
        assert torch.equal(output.sample(), output.sample())
    if kind != "TwoHot":
        assert not torch.equal(output.sample(), output.sample())


def test_modes_end_with_an_exception():
    output, _ = make("Normal")
    with pytest.raises(KeyError), dists.modes():
        raise KeyError
    assert not torch.equal(output.sample(), output.mode)


@pytest.mark.parametrize("kind", ["OneHot", "Bernoulli", "Normal", "TwoHot"])
def test_noise_that_would_broadcast_is_refused(kind):
    output, _ = make(kind)
    with pytest.raises(ValueError, match=r"was given noise of shape \(5, 1\).*nothing broadcasts"):
        output.sample(noise=torch.rand(5, 1))


@pytest.mark.parametrize("kind", REGRESSIONS)
@pytest.mark.parametrize("name", ["mode", "sample", "log_prob", "entropy"])
def test_a_regression_says_what_it_has(kind, name):
    output, _ = make(kind)
    with pytest.raises(AttributeError, match=rf"^{kind} has no '{name}'; it has mean, nll$"):
        getattr(output, name)
    assert not hasattr(output, name)


def test_a_distribution_says_what_it_has():
    message = r"^Normal has no 'probs'; it has mean, nll, mode, sample, log_prob, entropy, kl$"
    with pytest.raises(AttributeError, match=message) as error:
        make("Normal")[0].probs  # noqa: B018
    assert error.value.name == "probs"


def test_an_output_of_ones_own_needs_a_mean_and_a_loss():
    class Mine(dists.Output):
        tensors = ()

    with pytest.raises(NotImplementedError, match="Mine defines no mean"):
        Mine().mean  # noqa: B018
    with pytest.raises(NotImplementedError, match="Mine defines no nll"):
        Mine().nll(torch.zeros(3))


@every
def test_an_output_can_be_copied(kind):
    output, target = make(kind)
    assert torch.equal(copy.deepcopy(output).nll(target), output.nll(target))


BUILD = {
    "MSE": lambda x, _: dists.MSE(x, event=1),
    "SymlogMSE": lambda x, _: dists.SymlogMSE(x, event=1),
    "ImageMSE": lambda x, _: dists.ImageMSE(x[..., None, None]),
    "SigmoidImageMSE": lambda x, _: dists.SigmoidImageMSE(x[..., None, None]),
    "OneHot": lambda x, _: dists.OneHot(x, unimix=0.01),
    "TwoHot": lambda x, _: dists.TwoHot(x, torch.linspace(-2, 2, 7)),
    "Bernoulli": lambda x, _: dists.Bernoulli(x, event=1),
    "Normal": lambda x, y: dists.Normal(x, y.exp(), event=1),
    "BoundedNormal": lambda x, y: dists.BoundedNormal(x, y, event=1),
    "Joint": lambda x, y: dists.Joint({"a": dists.OneHot(x), "b": dists.Normal(x, y.exp(), 1)}),
}


@every
def test_capture(kind, same_when_compiled):
    """Built, read, scored, sliced and sampled in one graph, for three time steps."""
    pixels = torch.randint(256, (2, 3, 7, 1, 1), dtype=torch.uint8)
    target = {
        "ImageMSE": pixels,
        "SigmoidImageMSE": pixels,
        "OneHot": torch.eye(7)[torch.randint(7, (2, 3))],
        "TwoHot": torch.randn(2, 3),
        "Joint": torch.rand(2, 3, 14),
    }.get(kind, torch.rand(2, 3, 7))

    def everything(x, y):
        out = BUILD[kind](x, y)
        values = [out.mean, out.nll(target), out[:, :-1].mean, out[..., 0].nll(target[:, 0])]
        if kind in DISTRIBUTIONS:
            with dists.modes():
                values += [out.log_prob(target), out.entropy(), out.sample()]
        return values

    same_when_compiled(everything, *torch.randn(2, 2, 3, 7))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_everything_is_computed_in_float32(kind, dtype):
    output = BUILD[kind](*torch.randn(2, 2, 3, 7, dtype=dtype))
    assert output.mean.dtype == torch.float32
    if kind in DISTRIBUTIONS:
        assert {output.sample().dtype, output.entropy().dtype} == {torch.float32}


@pytest.mark.parametrize("kind", ["OneHot", "TwoHot", "Joint", "SigmoidImageMSE"])
def test_what_is_asked_without_gradients_takes_none_away(kind):
    """A policy used inside no_grad() still gets a gradient from its log-probability later."""
    if kind == "SigmoidImageMSE":
        raw = torch.randn(*BATCH, 4, 6, 3, requires_grad=True)
        out, target = dists.SigmoidImageMSE(raw), torch.zeros(*BATCH, 4, 6, 3, dtype=torch.uint8)
    else:
        raw = torch.randn(*BATCH, 7, requires_grad=True)
        one = dists.OneHot(raw)
        bins = symexp_bins(7)
        out = {"OneHot": one, "TwoHot": dists.TwoHot(raw, bins), "Joint": dists.Joint({"a": one})}
        out = out[kind]
        target = torch.zeros(BATCH) if kind == "TwoHot" else torch.eye(7)[torch.zeros(BATCH).long()]
    with torch.no_grad():
        asked = [out.mean, out.nll(target), out[:, :1].mean]
    assert not any(x.requires_grad for x in asked)
    out.nll(target).sum().backward()
    assert raw.grad.abs().sum() > 0
    again = out[:, :1].mean
    assert again.requires_grad


def test_modes_can_be_turned_off_inside():
    out = dists.Normal(torch.zeros(50), torch.ones(50))
    with dists.modes(), dists.modes(False):
        assert out.sample().abs().sum() > 0
    with dists.modes():
        with dists.modes(False):
            pass
        assert out.sample().abs().sum() == 0
