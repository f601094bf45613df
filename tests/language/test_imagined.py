"""Rewards of replayed rows and of imagined ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.envs import Feature, Goal
from worldblocks.heads import TwoHotHead
from worldblocks.language import (
    CaptionHead,
    CaptionReward,
    FeatureHead,
    HeadReward,
    Predicted,
    RewardSpec,
    RewardTerm,
    SpecReward,
    caption_target,
    relabel,
)
from worldblocks.replay import Batch, SequenceReplay

RANGES = {
    "speed": Feature(-2.0, 6.0),
    "done_a": Feature(0.0, 1.0, bit=True),
    "height": Feature(0.0, 2.0),
}
SAMPLE = {"speed": torch.linspace(-2, 6, 20), "done_a": torch.tensor([0.0, 1.0] * 10)}


def compiled(*exprs):
    return RewardSpec(tuple(RewardTerm(expr) for expr in exprs)).compile(SAMPLE)


def batch(speed, done, is_first, **more):
    flags = torch.tensor(is_first)
    obs = {"feat/speed": torch.tensor(speed), "feat/done_a": torch.tensor(done), **more}
    return Batch(
        obs,
        torch.zeros(*flags.shape, 2),
        torch.full(flags.shape, 9.0),
        flags,
        ~flags,
        ~flags,
        None,
        None,
    )


# ------------------------------------------------------------------------------------ relabelling


def test_rows_by_hand():
    """Row 0 of the second window goes on in the middle: what rose with it is not known."""
    rows = batch(
        [[5.0, 5.0, 0.0], [5.0, 0.0, 5.0]],
        [[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]],
        [[True, False, False], [False, True, False]],
    )
    state = relabel(rows, compiled("above(speed, 1)"))
    assert state.reward.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert state.known.all()
    event = relabel(rows, compiled("rise(done_a)"))
    assert event.reward.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert event.known.tolist() == [[True, True, True], [False, True, True]]


def test_another_spec_costs_no_data():
    """From a real replay: its stored reward is not looked at."""
    replay = SequenceReplay(capacity=20, streams=2, length=5, context=0)
    flags = torch.zeros(2, dtype=torch.bool)
    for step in range(12):
        replay.add(
            obs={"feat/speed": torch.tensor([float(step % 4), 0.0])},
            prev_action=torch.zeros(2, 3),
            reward=torch.full((2,), -7.0),
            is_first=flags | (step == 0),
            is_last=flags,
            is_terminal=flags,
            carry=None,
        )
    sample = {"speed": SAMPLE["speed"]}
    rows = replay.sample(4)
    for expr, expected in (("above(speed, 2)", 2.0), ("below(speed, 1)", 1.0)):
        reward = RewardSpec((RewardTerm(expr),)).compile(sample)
        speed = rows.obs["feat/speed"]
        by_hand = (speed >= expected) if "above" in expr else (speed <= expected)
        labels = relabel(rows, reward)
        assert torch.equal(labels.reward, (by_hand & ~rows.is_first).float())


def test_relabelling_refuses():
    rows = batch([[1.0, 0.0]], [[0.0, 0.0]], [[True, False]])
    with pytest.raises(KeyError, match=r"needs the features \['height'\], replay has"):
        relabel(rows, RewardSpec((RewardTerm("height"),)).compile({"height": torch.rand(5)}))
    inverse = RewardSpec((RewardTerm("1 / speed"),)).compile({"speed": torch.tensor([1.0, 2.0])})
    with pytest.raises(ValueError, match=r"'1 / speed' is inf at {'speed': 0.0}"):
        relabel(rows, inverse)
    assert relabel(rows, inverse, check=False).reward.tolist() == [[0.0, 10.0]]


# ------------------------------------------------------------------------------ predicted features


def test_predictions_by_hand():
    """0 is the middle of a range, 1 its end; a bit is its probability."""
    found = Predicted(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0]]), RANGES)
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
    exact = Predicted(unit, torch.zeros(*shape, 0), ranges)
    assert exact.mean["speed"].shape == shape
    torch.testing.assert_close(exact.mean["speed"], truth)
    off = Predicted(unit + 0.1, torch.zeros(*shape, 0), ranges)
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


# ------------------------------------------------------------------------------- imagined rewards


def heads():
    return {
        "head": HeadReward(TwoHotHead(7, units=6, layers=1, outscale=1.0)),
        "features": SpecReward(
            FeatureHead(7, RANGES, units=6, layers=1),
            compiled("above(speed, 1, 3)", "rise(done_a)"),
        ),
        "caption": CaptionReward(
            CaptionHead(7, embed_dim=5, units=6, layers=1), torch.tensor([3.0, 0, 0, 4.0, 0])
        ),
    }


@pytest.mark.parametrize("kind", ["head", "features", "caption"])
def test_each_gives_a_reward_for_every_row(kind):
    reward = heads()[kind](torch.randn(2, 3, 7))
    assert reward.shape == (2, 3)
    assert reward.dtype == torch.float32
    assert reward.isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert heads()[kind](torch.randn(2, 3, 7)).isfinite().all()


def test_they_capture(same_when_compiled):
    module = heads()["features"]
    same_when_compiled(lambda x: module(x) + module.head(x).nll(FEATURES), INPUT, module=module)


INPUT = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1))
FEATURES = {name: torch.zeros(2, 3) for name in RANGES}


def test_a_spec_on_predictions_is_the_spec_of_their_means():
    module = heads()["features"]
    means = module.head(INPUT).mean
    torch.testing.assert_close(module(INPUT), module.reward({k: means[k] for k in SAMPLE}))
    module.reward = compiled("speed")  # another sentence, the same head
    torch.testing.assert_close(module(INPUT), module.reward({"speed": means["speed"]}))
    with pytest.raises(ValueError, match=r"the reward uses \['x'\], which the head does not"):
        SpecReward(module.head, RewardSpec((RewardTerm("x"),)).compile({"x": torch.rand(4)}))


def test_captions_by_hand():
    """Two goals at right angles; with both at once the caption has length 1."""
    goals = [Goal("a", "done_a"), Goal("b", "done_b")]
    features = {
        "done_a": torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0]]),
        "done_b": torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]]),
    }
    first = torch.tensor([[True, False, False, True, False]])
    found = caption_target(features, first, goals, torch.eye(2))
    half = 0.5**0.5
    expected = [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [half, half]]
    torch.testing.assert_close(found[0], torch.tensor(expected))


def test_a_caption_pays_by_its_cosine_to_the_goal():
    module = heads()["caption"]
    assert module(INPUT).abs().sum() == 0, "nothing is predicted to happen at first"
    with torch.no_grad():
        module.head.out.bias.copy_(torch.tensor([0.6, 0, 0, 0.8, 0]))
    torch.testing.assert_close(module(INPUT), torch.ones(2, 3))
    with torch.no_grad():
        module.head.out.bias.neg_()
    assert (module(INPUT) == 0).all(), "what is the opposite is worth no less than nothing"
    with pytest.raises(ValueError, match="a goal with a direction, got zeros"):
        CaptionReward(module.head, torch.zeros(5))
