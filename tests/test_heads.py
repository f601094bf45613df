import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from worldblocks import distributions as dists
from worldblocks.distributions import Features
from worldblocks.heads import (
    ActorHead,
    BinaryHead,
    FeatureHead,
    NormalHead,
    OneHotHead,
    TwoHotHead,
)
from worldblocks.optim import dreamer_optimizer
from worldblocks.spaces import Continuous, Discrete
from worldblocks.transforms import symexp_bins

FEATURE = 11
MLP = {"units": 7, "layers": 2}
ACTIONS = {
    "jump": Discrete(3),
    "arm": Continuous((2,)),
    "keys": Discrete(2, (4,)),
    "z": Continuous(),
}
SIZE = 2 + 3 + 8 + 1


def heads():
    return {
        "two-hot": TwoHotHead(FEATURE, **MLP, bins=13),
        "binary": BinaryHead(FEATURE, **MLP),
        "one-hot": OneHotHead(FEATURE, groups=3, classes=5, **MLP),
        "normal": NormalHead(FEATURE, size=3, **MLP),
        "actor": ActorHead(FEATURE, ACTIONS, **MLP),
    }


every = pytest.mark.parametrize("name", list(heads()))


def randomise(head):
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return head


@every
@pytest.mark.parametrize("batch", [(), (2,), (2, 5)])
def test_an_output_for_any_batch_axes(name, batch):
    head, feature = randomise(heads()[name]), torch.randn(*batch, FEATURE)
    out = head(feature)
    loss = out.nll(out.mean.detach())
    assert (loss.shape, loss.dtype) == (batch, torch.float32)
    if batch == (2, 5):
        alone = head(feature[1, 3])
        torch.testing.assert_close(out[1, 3].mean, alone.mean)
        torch.testing.assert_close(out.mean[1, 3], alone.mean)


@every
def test_gradients_reach_every_parameter_and_the_feature(name):
    head, feature = randomise(heads()[name]), torch.randn(2, FEATURE, requires_grad=True)
    out = head(feature)
    loss = out.nll(torch.rand_like(out.mean)).sum()
    grads = torch.autograd.grad(loss, [*head.parameters(), feature])
    assert all(g.ne(0).any() for g in grads)


OPTIMIZERS = {
    "laprop": functools.partial(dreamer_optimizer, lr=1e-3, warmup=3),
    "adam": functools.partial(torch.optim.Adam, lr=1e-3),
}
BACKENDS = ["", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.mark.parametrize("bins", [41, 254, 255])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_far_bins_mirror_each_other_after_updates(bins, optimizer, backend, threads):
    """Bins of ±4.9e8 cancel exactly, so that the mean stays near the targets."""
    torch.manual_seed(0)
    head = TwoHotHead(FEATURE, units=7, layers=1, bins=bins)
    updates = OPTIMIZERS[optimizer](head.parameters())

    def predict(feature, target):
        out = head(feature)
        return out.nll(target).mean(), out.mean

    if backend:
        predict = torch.compile(predict, fullgraph=True, backend=backend)
    for rows in (3, 16, 1024) * 4:
        loss, mean = predict(torch.randn(rows, FEATURE), torch.rand(rows))
        assert -0.01 < mean.min() <= mean.max() < 1.01
        updates.zero_grad()
        loss.backward()
        updates.step()
    far = head.bins.abs() > head.bins[head.bins >= 1].min()  # no target puts weight there
    assert far.sum() > 30
    for parameter in (head.out.weight, head.out.bias):
        assert parameter[far].any()
        assert torch.equal(parameter[far], parameter.flip(0)[far])


@pytest.mark.parametrize("bins", [254, 255])
def test_the_mean_of_symmetric_targets_stays_zero(bins):
    torch.manual_seed(0)
    head = TwoHotHead(FEATURE, units=8, layers=1, bins=bins)
    optimizer = dreamer_optimizer(head.parameters(), lr=1e-3, warmup=100)
    worst = 0.0
    for _ in range(500):
        feature, target = torch.randn(16, FEATURE), torch.rand(16)
        out = head(torch.cat([feature, feature]))
        worst = max(worst, out.mean.abs().max().item())
        optimizer.zero_grad()
        out.nll(torch.cat([target, -target])).mean().backward()
        optimizer.step()
    assert worst < 1e-3


@pytest.mark.parametrize("name", ["two-hot", "binary", "actor"])
def test_capture(name, same_when_compiled):
    head = randomise(heads()[name])

    def three_rows(feature):
        out = head(feature)
        mean = out.mean / (1e8 if name == "two-hot" else 1)
        return mean, out[:, :-1].nll(out[:, 1:].mean)

    same_when_compiled(three_rows, torch.randn(2, 3, FEATURE), module=head)


@every
def test_under_autocast_it_stays_near_float32(name):
    head, feature = heads()[name], torch.randn(5, FEATURE)
    exact = head(feature)
    with torch.autocast("cpu", torch.bfloat16):
        cast = head(feature)
        loss = cast.nll(exact.mean)
    assert (cast.mean.dtype, loss.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(cast.mean, exact.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(loss, exact.nll(exact.mean), rtol=0, atol=0.1)


@every
def test_a_wrong_feature_is_refused(name):
    with pytest.raises(ValueError, match=r"feature should be 11 wide .*got shape \(2, 10\)"):
        heads()[name](torch.zeros(2, 10))
    with pytest.raises(
        TypeCheckError, match=r"feature should be Float.*got int64\[2, 11\]; use feature.float"
    ):
        heads()[name](torch.zeros(2, FEATURE, dtype=torch.int64))


def test_a_two_hot_head_predicts_exactly_zero_at_first():
    head = TwoHotHead(FEATURE, units=7, layers=1)
    out = head(torch.randn(2, 5, FEATURE))
    assert out.mean.eq(0).all()
    assert torch.equal(head.bins, symexp_bins(255))
    assert "bins" not in head.state_dict()
    assert TwoHotHead(FEATURE, units=7, layers=1, outscale=1.0)(torch.randn(2, 11)).mean.ne(0).all()


def test_a_two_hot_head_that_predicts_zero_still_learns():
    head = TwoHotHead(FEATURE, units=7, layers=1)
    loss = head(torch.randn(2, FEATURE)).nll(torch.tensor([3.0, -4.0])).sum()
    (gradient,) = torch.autograd.grad(loss, head.out.weight)
    assert gradient.ne(0).any()


def test_heads_are_what_they_say():
    feature = torch.randn(2, 5, FEATURE)
    out = {name: randomise(head)(feature) for name, head in heads().items()}
    kinds = [dists.TwoHot, dists.Bernoulli, dists.OneHot, dists.BoundedNormal, dists.Joint]
    assert [type(output) for output in out.values()] == kinds
    shapes = [tuple(output.mean.shape[2:]) for output in out.values()]
    assert shapes == [(), (), (3, 5), (3,), (SIZE,)]


def test_a_one_hot_head_mixes_in_one_per_cent():
    head = OneHotHead(FEATURE, groups=3, classes=5, **MLP)
    head.out.bias.data = torch.tensor([1e4, 0, 0, 0, 0]).repeat(3)
    probs = head(torch.zeros(FEATURE)).mean
    torch.testing.assert_close(probs[0], torch.tensor([0.992, 0.002, 0.002, 0.002, 0.002]))


def test_a_normal_head_starts_at_deviation_0_893():
    out = NormalHead(FEATURE, size=3, **MLP, outscale=0.0)(torch.randn(2, FEATURE))
    assert out.mean.eq(0).all()
    torch.testing.assert_close(out.std, torch.full((2, 3), 0.8927), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("raw", "std"), [(-50.0, 0.25), (50.0, 0.75), (-2.0, 0.5)])
def test_a_normal_head_keeps_its_deviation_within_its_bounds(raw, std):
    head = NormalHead(FEATURE, size=3, **MLP, low=0.25, high=0.75, outscale=0.0)
    torch.nn.init.constant_(head.std.bias, raw)
    torch.testing.assert_close(head(torch.randn(2, FEATURE)).std, torch.full((2, 3), std))


# -------------------------------------------------------------------------------------------- actor


def test_an_actor_has_its_parts_in_sorted_order():
    policy = randomise(ActorHead(FEATURE, ACTIONS, **MLP))(torch.randn(2, 5, FEATURE))
    assert list(policy.parts) == ["arm", "jump", "keys", "z"]
    action = policy.sample()
    assert action.shape == (2, 5, SIZE)
    pieces = policy.split(action)
    assert [tuple(x.shape[2:]) for x in pieces.values()] == [(2,), (3,), (4, 2), ()]
    assert pieces["jump"].sum(-1).eq(1).all()
    assert pieces["keys"].sum(-1).eq(1).all()


def test_an_actor_starts_almost_uniform():
    policy = ActorHead(FEATURE, {"jump": Discrete(3)}, **MLP)(torch.randn(100, FEATURE))
    assert (policy.mean - 1 / 3).abs().max() < 0.02


def test_an_actor_mixes_nothing_in_unless_asked():
    feature = torch.zeros(FEATURE)
    for unimix, least in ((0.0, 0.0), (0.3, 0.1)):
        head = ActorHead(FEATURE, {"jump": Discrete(3)}, **MLP, unimix=unimix)
        head.outs[0][0].bias.data = torch.tensor([1e4, 0.0, 0.0])
        torch.testing.assert_close(head(feature).mean[1:], torch.full((2,), least))


def test_entropies_and_log_probabilities_of_an_actor_add_up():
    policy = randomise(ActorHead(FEATURE, ACTIONS, **MLP))(torch.randn(2, FEATURE))
    parts = policy.parts.values()
    assert [part.event for part in parts] == [1, 0, 1, 0]
    torch.testing.assert_close(policy.entropy(), sum(part.entropy() for part in parts))
    assert policy.log_prob(policy.sample()).shape == (2,)


def test_the_deviation_of_an_actor_is_bounded():
    head = randomise(ActorHead(FEATURE, {"arm": Continuous((2,))}, **MLP, low=0.2, high=0.3))
    std = head(1e3 * torch.randn(50, FEATURE)).parts["arm"].std
    assert ((std >= 0.2) & (std <= 0.3)).all()


def test_an_actor_needs_an_action():
    with pytest.raises(ValueError, match="ActorHead needs at least one action key, got none"):
        ActorHead(FEATURE, {}, **MLP)


RANGES = {
    "speed": (-2.0, 6.0, False),
    "done_a": (0.0, 1.0, True),
    "height": (0.0, 2.0, False),
}


def test_predictions_by_hand():
    """0 is the middle of a range, 1 its end; a bit is its probability."""
    found = Features(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0]]), RANGES)
    assert {name: x.item() for name, x in found.mean.items()} == {
        "speed": 2.0,
        "height": 2.0,
        "done_a": 0.5,
    }
    # speed 6 is one half-range away, height 1 too; ln 2 for the bit.
    target = {"speed": torch.tensor([6.0]), "height": torch.tensor([1.0]), "done_a": torch.ones(1)}
    assert found.nll(target).item() == pytest.approx(2 + 0.693147, abs=1e-5)


@given(st.integers(0, 2**31), st.sampled_from([(), (2,), (2, 3)]))
def test_the_truth_has_the_least_loss(seed, shape):
    torch.manual_seed(seed)
    ranges = {"speed": RANGES["speed"]}
    truth = 8 * torch.rand(shape) - 2
    unit = ((truth - 2) / 4)[..., None]
    exact = Features(unit, torch.zeros(*shape, 0), ranges)
    assert exact.mean["speed"].shape == shape
    torch.testing.assert_close(exact.mean["speed"], truth)
    off = Features(unit + 0.1, torch.zeros(*shape, 0), ranges)
    assert (off.nll({"speed": truth}) > exact.nll({"speed": truth})).all()


def test_a_feature_head_learns():
    """A number and a bit, both linear in the state."""
    head = FeatureHead(4, {k: RANGES[k] for k in ("speed", "done_a")}, units=16, layers=1)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    state = torch.randn(128, 4)
    target = {"speed": 2 + state[:, 0], "done_a": (state[:, 1] > 0).float()}
    before = head(state).nll(target).mean().item()
    for _ in range(100):
        optimizer.zero_grad()
        head(state).nll(target).mean().backward()
        optimizer.step()
    assert head(state).nll(target).mean().item() < 0.3 * before
    with pytest.raises(ValueError, match="at least one feature, got none"):
        FeatureHead(4, {}, units=3, layers=1)
