import pytest
import torch

from worldblocks.distributions import MSE, Bernoulli, Joint, Normal, OneHot, TwoHot, modes

BATCH = (2, 5)


def parts():
    """Widths 3, 2 · 4 and 1: an action of 12 numbers."""
    return {
        "arm": Normal(torch.randn(*BATCH, 3), torch.rand(*BATCH, 3) + 0.1, event=1),
        "keys": OneHot(torch.randn(*BATCH, 2, 4), unimix=0.1, event=1),
        "lift": Bernoulli(torch.randn(*BATCH)),
    }


def value(parts):
    return {key: part.sample() for key, part in parts.items()}


def flat(values):
    return torch.cat([values["arm"], values["keys"].flatten(-2), values["lift"][..., None]], -1)


def test_the_parts_fill_one_vector_in_order():
    given = parts()
    joint = Joint(given)
    expected = {key: part.mean for key, part in given.items()}
    assert torch.equal(joint.mean, flat(expected))
    assert torch.equal(joint.mode, flat({key: part.mode for key, part in given.items()}))
    assert joint.mean.shape == (*BATCH, 12)
    assert joint.event == 1


def test_log_probabilities_and_entropies_add_up():
    given = parts()
    values = value(given)
    expected = sum(part.log_prob(values[key]) for key, part in given.items())
    torch.testing.assert_close(Joint(given).log_prob(flat(values)), expected)
    torch.testing.assert_close(Joint(given).nll(flat(values)), -expected)
    entropy = sum(part.entropy() for part in given.values())
    torch.testing.assert_close(Joint(given).entropy(), entropy)


def test_splitting_undoes_joining():
    given = parts()
    values = value(given)
    for key, piece in Joint(given).split(flat(values)).items():
        assert torch.equal(piece, values[key])


def test_noise_is_given_by_part():
    joint, noise = Joint(parts()), torch.zeros(*BATCH, 3)
    assert torch.equal(joint.sample({"arm": noise})[..., :3], joint.mean[..., :3])
    with modes():
        assert torch.equal(joint.sample(), joint.mode)


def test_noise_of_a_misspelt_part():
    message = r"Joint has the parts \['arm', 'keys', 'lift'\], got noise for \['amr'\]"
    with pytest.raises(ValueError, match=message):
        Joint(parts()).sample({"amr": torch.zeros(*BATCH, 3)})


def test_every_part_may_be_of_any_kind():
    two_hot = TwoHot(torch.randn(*BATCH, 7), torch.linspace(-2, 2, 7))
    joint = Joint({"number": two_hot, **parts()})
    assert joint.sample().shape == (*BATCH, 13)
    assert joint.log_prob(joint.sample()).shape == BATCH
    assert torch.equal(joint.mean[..., 0], two_hot.mean)


def test_a_vector_of_another_size():
    message = r"Joint of {'arm': 3, 'keys': 8, 'lift': 1} takes vectors of 12 .* \(2, 5, 11\)"
    with pytest.raises(ValueError, match=message):
        Joint(parts()).log_prob(torch.zeros(*BATCH, 11))
    with pytest.raises(ValueError, match=r"got shape \(\)"):
        Joint(parts()).split(torch.tensor(1.0))


def test_a_part_that_is_no_distribution_says_so():
    with pytest.raises(AttributeError, match="MSE has no 'sample'; it has mean, nll"):
        Joint({"arm": MSE(torch.zeros(2, 3), event=1)}).sample()


def test_the_gradient_of_a_sample_reaches_every_part():
    raw = torch.randn(*BATCH, 3, requires_grad=True)
    joint = Joint({"a": OneHot(raw), "b": Normal(raw, torch.ones_like(raw), event=1)})
    weight = torch.randn(*BATCH, 6)
    (gradient,) = torch.autograd.grad((joint.sample() * weight).sum(), raw)
    soft = (raw.softmax(-1) * weight[..., :3]).sum() + (raw * weight[..., 3:]).sum()
    torch.testing.assert_close(gradient, torch.autograd.grad(soft, raw)[0])
