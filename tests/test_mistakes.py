"""Mistakes that train to a wrong number without an error, one test each: the rows of
docs/mistakes.md."""

import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import worldblocks as wb
from worldblocks.distributions import OneHot

PAGE = Path(__file__).parents[1] / "docs" / "mistakes.md"


def zeros(*shape):
    return torch.zeros(shape)


def rssm():
    torch.manual_seed(0)
    sizes = {"deter": 32, "hidden": 8, "groups": 4, "classes": 4, "blocks": 8}
    return wb.rssm.dreamer_rssm(embed_dim=32, action_dim=2, **sizes)


def row(**changes):
    """A row of two streams."""
    flags = {name: zeros(2).bool() for name in ("is_first", "is_last", "is_terminal")}
    values = {"obs": {"speed": zeros(2, 3)}, "prev_action": zeros(2, 1), "reward": zeros(2)}
    return {**values, **flags, "carry": None, **changes}


def replay():
    return wb.replay.SequenceReplay(capacity=10, streams=2, length=2, context=0)


def encoder():
    return wb.encoders.dreamer_encoder({"image": wb.spaces.Image(48, 48, 1)}, depth=2, units=8)


# ------------------------------------------------------------------------------- shapes and axes


def test_flat_logits_of_a_latent():
    flat = OneHot(zeros(64, 16), event=1)
    with pytest.raises(ValueError, match=r"flat logits need .unflatten\(-1, \(groups, classes\)\)"):
        wb.losses.balanced_kl(flat, flat, free_nats=1.0)


def test_distributions_that_broadcast():
    one, other = OneHot(zeros(3, 5, 4, 4), event=1), OneHot(zeros(5, 4, 4), event=1)
    with pytest.raises(ValueError, match=r"\(3, 5, 4, 4\) .* \(5, 4, 4\).*nothing broadcasts"):
        wb.losses.balanced_kl(one, other, free_nats=1.0)


def test_targets_that_broadcast():
    with pytest.raises(ValueError, match=r"MSE of shape \(4, 1\) .* \(4, 3\).*nothing broadcasts"):
        wb.distributions.MSE(zeros(4, 1), event=1).nll(zeros(4, 3))


def test_time_before_batch_with_another_axis():
    late = zeros(5, 2, 1)
    with pytest.raises(TypeCheckError, match=r"'batch time'\], got float32\[5, 2, 1\]"):
        wb.returns.lambda_return(late, late, late, 0.95)


def test_time_before_batch_is_seen_by_its_flags():
    """Of two axes alone nothing is to be seen; beside a carry their batch axis is."""
    module = rssm()
    embed, action, is_first = zeros(5, 3, 32), zeros(5, 3, 2), zeros(5, 3).bool()
    with pytest.raises(TypeCheckError, match=r"embed .*time first"):
        module.observe(module.initial(3), embed, action, is_first)


def test_embedding_and_state_swapped_though_their_sizes_match():
    module = rssm()
    carry, embed = module.initial(3), zeros(3, 32)
    with pytest.raises(TypeCheckError, match="carry should be Carry"):
        module.observe_step(embed, carry, zeros(3, 2), zeros(3).bool())


# --------------------------------------------------------------------------------- flags and keys


def test_a_missing_flag_of_an_episode_start():
    module = rssm()
    with pytest.raises(TypeError, match="missing a required argument: 'is_first'"):
        module.observe_step(module.initial(3), zeros(3, 32), zeros(3, 2))
    given = row()
    del given["is_first"]
    with pytest.raises(TypeError, match="'is_first'"):
        replay().add(**given)


def test_a_misnamed_flag():
    with pytest.raises(TypeError, match="unexpected keyword argument 'first'"):
        replay().add(**row(first=zeros(2).bool()))


def test_a_flag_of_numbers():
    module = rssm()
    with pytest.raises(TypeCheckError, match=r"is_first should be Bool.*got float32\[3\]"):
        module.observe_step(module.initial(3), zeros(3, 32), zeros(3, 2), zeros(3))


def test_a_misspelt_observation():
    stored = replay()
    stored.add(**row())
    with pytest.raises(ValueError, match=r"unknown observation 'sped'; .* stores \['speed'\]"):
        stored.add(**row(obs={"sped": zeros(2, 3)}))
    message = r"takes the observations \['image'\], got \['imge'\]: missing \['image'\]"
    with pytest.raises(KeyError, match=message):
        encoder()({"imge": zeros(1, 48, 48, 1).byte()})


# ------------------------------------------------------------------------------------------ values


def test_an_image_of_floats():
    with pytest.raises(ValueError, match=r"should be a uint8 image .* got torch.float32"):
        encoder()({"image": zeros(1, 48, 48, 1)})


def test_bins_that_do_not_ascend():
    bins = torch.tensor([1.0, 0.0, -1.0])
    with pytest.raises(ValueError, match="two_hot takes at least 2 bins that ascend, got"):
        wb.transforms.two_hot(zeros(3), bins)


def test_a_target_that_is_no_number():
    """It is refused where it enters; past that a loss of it is NaN, not a bin."""
    with pytest.raises(ValueError, match=r"reward of stream 1 holds nan at row 0"):
        replay().add(**row(reward=torch.tensor([0.0, torch.nan])))
    bins = torch.tensor([-1.0, 0.0, 1.0])
    assert wb.transforms.two_hot(torch.tensor([torch.nan]), bins).isnan().any()


def test_a_latent_that_is_no_number():
    """A broken row is NaN; it does not look like a class."""
    logits = torch.tensor([[0.0, torch.nan], [0.0, 9.0]])
    assert OneHot(logits).sample().isnan().any(-1).tolist() == [True, False]


def test_an_interquartile_mean_is_no_mean_of_percentiles():
    scores = np.array([0.0, 1.0, 1.0, 2.0, 6.0, 7.0, 9.0, 100.0])
    assert wb.evaluate.iqm(scores) == np.mean([1.0, 2.0, 6.0, 7.0])
    assert wb.evaluate.iqm(scores) != np.percentile(scores, [25, 50, 75]).mean()


# -------------------------------------------------------------------------------- the agent itself


def test_the_action_before_an_episode_is_zeros():
    """Not the one-hot of action 0: what stands in `prev_action` there does not matter."""
    module, first = rssm(), torch.ones(1).bool()
    left, right = torch.tensor([[1.0, 0.0]]), zeros(1, 2)
    with wb.distributions.modes():
        states = [
            module.observe_step(module.initial(1), zeros(1, 32), a, first) for a in (left, right)
        ]
    assert torch.equal(states[0].deter, states[1].deter)


def test_mirrored_bins_cancel():
    """Targets of mean 0 keep a mean of 0, though bins of ±4.9e8 each have a 255th of the weight."""
    head = wb.heads.TwoHotHead(5, units=8, layers=1)
    optimizer = wb.optim.dreamer_optimizer(head.parameters(), lr=1e-3, warmup=0)
    for _ in range(30):
        feature, target = torch.randn(100, 5), torch.rand(100)
        out = head(torch.cat([feature, feature]))
        assert out.mean.abs().max() < 1e-5
        optimizer.zero_grad()
        out.nll(torch.cat([target, -target])).mean().backward()
        optimizer.step()


def test_a_norm_without_an_offset():
    x = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(wb.layers.RMSNorm(2)(x), x / 12.5**0.5, rtol=1e-4, atol=0)
    assert [name for name, _ in wb.layers.RMSNorm(2).named_parameters()] == ["scale"]


def test_the_fan_in_of_a_block_is_that_of_the_whole_layer():
    torch.manual_seed(0)
    layer = wb.layers.BlockLinear(1024, 512, blocks=8)
    assert layer.weight.std().item() == pytest.approx(1024**-0.5, rel=0.02)


def test_free_nats_come_after_the_sum_over_groups():
    """Two groups of 0.6 nats each are 1.2 nats, above a floor of 1."""
    certain = torch.tensor([[[99.0, 0.0]] * 2])  # KL to a uniform of two classes: ln 2 each
    dyn, _ = wb.losses.balanced_kl(
        OneHot(certain, event=1), OneHot(zeros(1, 2, 2), event=1), free_nats=1.0
    )
    assert dyn.item() == pytest.approx(2 * np.log(2))


def test_an_action_is_chosen_at_its_row():
    """`actions[:, t]` leads from row t to row t + 1."""

    class Counter:
        feature_dim = 1

        def imagine_step(self, carry, action):
            return State(carry + action)

    class State(tuple):
        carry = property(lambda self: self[0])

        def __new__(cls, value):
            return tuple.__new__(cls, (value,))

        def light(self):
            return self

    torch.utils._pytree.register_pytree_node(
        State, lambda s: ([s[0]], None), lambda parts, _: State(parts[0])
    )
    states, actions = wb.rssm.imagine(Counter(), State(zeros(1, 1)), lambda s: s.carry + 1, 3)
    assert states.carry.flatten().tolist() == [0, 1, 3, 7]
    assert actions.flatten().tolist() == [1, 2, 4, 8]


def test_the_page_has_a_row_for_each():
    here = sys.modules[__name__]
    tests = [name for name, _ in inspect.getmembers(here, inspect.isfunction)]
    rows = re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert sorted(rows) == sorted(t for t in tests if t.startswith("test_") and "_page_" not in t)
