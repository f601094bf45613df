import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from worldblocks.balance import FixedWeights, HarmonyWeights, UncertaintyWeights

sizes = st.floats(1e-3, 1e3)


def tensors(**losses):
    return {name: torch.tensor(value) for name, value in losses.items()}


def scaled(kind, value, name="obs"):
    """Weights for one loss with this value of the parameter."""
    balance = kind([name]) if kind is HarmonyWeights else kind(squared=[name])
    with torch.no_grad():
        next(balance.parameters()).fill_(value)
    return balance


MADE = [
    FixedWeights({"obs": 2.0}),
    HarmonyWeights(["obs"]),
    UncertaintyWeights(squared=["obs"]),
]


def test_fixed_by_hand():
    balance = FixedWeights({"dyn": 1, "rep": 0.1})
    out = balance(tensors(dyn=3.0, rep=5.0, actor=-7.0))
    assert_close(out, tensors(dyn=3.0, rep=0.5, actor=-7.0))
    assert_close(balance.weights(), tensors(dyn=1.0, rep=0.1))
    assert not list(balance.parameters())


def test_harmony_by_hand():
    """σ = 4: 8 / 4 + ln 5."""
    balance = scaled(HarmonyWeights, math.log(4))
    assert_close(balance(tensors(obs=8.0))["obs"], torch.tensor(2 + math.log(5)))
    assert_close(balance.weights(), tensors(obs=0.25))


def test_uncertainty_by_hand():
    """σ² = 4: 8 / 8 + ln 2 for a squared error, 8 / 4 + ln 2 for a log-likelihood."""
    balance = UncertaintyWeights(squared=["obs"], likelihood=["cont"])
    for variance in balance.log_variances:
        variance.data.fill_(math.log(4))
    out = balance(tensors(obs=8.0, cont=8.0))
    assert_close(out, tensors(obs=1 + math.log(2), cont=2 + math.log(2)))
    assert_close(balance.weights(), tensors(obs=0.125, cont=0.25))


@pytest.mark.parametrize("balance", MADE)
def test_the_order_of_names_and_other_losses_stay(balance):
    actor = torch.randn(3, 5)
    out = balance({"dyn": torch.ones(()), "obs": torch.ones(2), "actor": actor})
    assert list(out) == ["dyn", "obs", "actor"]
    assert out["actor"] is actor


@given(sizes)
def test_the_best_harmony_scale_is_the_one_of_the_paper(loss):
    """The gradient of s vanishes at σ = (L + √(L² + 4 L)) / 2, where the weight is at most 1 / √L
    and the weighted loss 2 / (1 + √(1 + 4 / L)) < 1.
    """
    best = (loss + math.sqrt(loss**2 + 4 * loss)) / 2
    balance = scaled(HarmonyWeights, math.log(best))
    balance(tensors(obs=loss))["obs"].backward()
    assert balance.log_scales[0].grad.item() == pytest.approx(0, abs=2e-5)
    weight = balance.weights()["obs"].item()
    assert weight <= 1.0001 / math.sqrt(loss)
    assert weight * loss == pytest.approx(2 / (1 + math.sqrt(1 + 4 / loss)), rel=1e-4)


@given(sizes, st.booleans())
def test_the_best_uncertainty_is_the_loss_itself(loss, squared):
    """σ² = L for a squared error, 2 L for a log-likelihood; either weighted loss is then 1/2."""
    kind = {"squared": ["obs"]} if squared else {"likelihood": ["obs"]}
    balance = UncertaintyWeights(**kind)
    balance.log_variances[0].data.fill_(math.log(loss if squared else 2 * loss))
    balance(tensors(obs=loss))["obs"].backward()
    assert balance.log_variances[0].grad.item() == pytest.approx(0, abs=2e-5)
    assert balance.weights()["obs"].item() * loss == pytest.approx(0.5, rel=1e-4)


@given(sizes, st.floats(-4, 4), st.sampled_from([HarmonyWeights, UncertaintyWeights]))
def test_the_mean_of_an_unreduced_loss_is_the_loss_of_the_mean(size, value, kind):
    balance, loss = scaled(kind, value), size * torch.rand(3, 5)
    whole, mean = balance({"obs": loss})["obs"].mean(), balance({"obs": loss.mean()})["obs"]
    assert_close(whole, mean, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(x, list(balance.parameters()))[0] for x in (whole, mean)]
    assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [HarmonyWeights, UncertaintyWeights])
def test_training_brings_losses_to_one_size(kind):
    """1000 and 0.2 differ by a factor of 5000, the weighted losses by less than 4."""
    names = ["obs", "reward"]
    balance = kind(names) if kind is HarmonyWeights else kind(squared=names)
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.1, betas=(0.9, 0.9))
    losses = tensors(obs=1000.0, reward=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        sum(balance(losses).values()).backward()
        optimizer.step()
    parts = [weight.item() * losses[name].item() for name, weight in balance.weights().items()]
    assert max(parts) < 4 * min(parts)


@pytest.mark.parametrize("balance", MADE[1:])
def test_the_gradient_of_a_loss_is_weighted(balance):
    loss = torch.tensor([2.0, 3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(balance({"obs": loss})["obs"].sum(), loss)
    assert_close(gradient, balance.weights()["obs"].expand(2))
    assert not balance.weights()["obs"].requires_grad


def test_capture_and_dtypes(same_when_compiled):
    def every(obs, actor):
        return [balance({"obs": obs, "actor": actor}) for balance in MADE]

    same_when_compiled(every, torch.rand(2, 3), torch.rand(5), module=torch.nn.ModuleList(MADE))
    with torch.autocast("cpu", torch.bfloat16):
        outs = every(torch.rand(3), torch.rand(5))
    assert {out["obs"].dtype for out in outs} == {torch.float32}


def test_weights_are_saved():
    saved = scaled(HarmonyWeights, 2.0).state_dict()
    balance = HarmonyWeights(["obs"])
    balance.load_state_dict(saved)
    assert balance.weights()["obs"].item() == pytest.approx(math.exp(-2))


@pytest.mark.parametrize("balance", MADE)
def test_a_loss_that_is_missing(balance):
    message = rf"{type(balance).__name__} weights \['obs'\], got the losses \['ob'\]: no \['obs'\]"
    with pytest.raises(KeyError, match=message):
        balance({"ob": torch.zeros(())})


@pytest.mark.parametrize(
    ("names", "shown"), [("obs", "got 'obs'"), ([], r"got \[\]"), (["a", "a"], r"\['a', 'a'\]")]
)
def test_impossible_names(names, shown):
    with pytest.raises(
        ValueError, match=f"HarmonyWeights takes one or more distinct names of losses, .*{shown}"
    ):
        HarmonyWeights(names)


def test_no_fixed_weight():
    with pytest.raises(
        ValueError, match=r"FixedWeights takes one or more distinct names of losses, .*got \[\]"
    ):
        FixedWeights({})


def test_a_name_of_two_kinds():
    with pytest.raises(
        ValueError, match=r"UncertaintyWeights takes .* distinct names .*\['a', 'a'\]"
    ):
        UncertaintyWeights(squared=["a"], likelihood=["a"])
    with pytest.raises(ValueError, match=r"UncertaintyWeights takes .*got \[\]"):
        UncertaintyWeights()
    with pytest.raises(ValueError, match=r"UncertaintyWeights takes .*got 'obs'"):
        UncertaintyWeights(squared="obs")
