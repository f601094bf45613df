"""Rewards of replayed rows and of imagined ones."""

import pytest
import torch

from worldblocks.envs import Feature, Goal, split_features
from worldblocks.heads import FeatureHead, TwoHotHead
from worldblocks.language import (
    CaptionHead,
    CaptionReward,
    HeadReward,
    RewardSpec,
    RewardTerm,
    SpecReward,
    caption_target,
)
from worldblocks.replay import Batch, SequenceReplay, relabel

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


def labelled(rows, reward):
    return relabel(split_features(rows.obs)[1], rows.is_first, reward.relabel)


def test_rows_by_hand():
    """The second window starts inside an episode, so `rise` is unknown in its row 0."""
    rows = batch(
        [[5.0, 5.0, 0.0], [5.0, 0.0, 5.0]],
        [[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]],
        [[True, False, False], [False, True, False]],
    )
    state = labelled(rows, compiled("above(speed, 1)"))
    assert state.reward.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert state.known.all()
    event = labelled(rows, compiled("rise(done_a)"))
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
        labels = labelled(rows, reward)
        assert torch.equal(labels.reward, (by_hand & ~rows.is_first).float())


def test_relabelling_refuses():
    rows = batch([[1.0, 0.0]], [[0.0, 0.0]], [[True, False]])
    with pytest.raises(KeyError, match=r"needs the features \['height'\], but replay has"):
        labelled(rows, RewardSpec((RewardTerm("height"),)).compile({"height": torch.rand(5)}))
    inverse = RewardSpec((RewardTerm("1 / speed"),)).compile({"speed": torch.tensor([1.0, 2.0])})
    with pytest.raises(ValueError, match=r"'1 / speed' is inf at {'speed': 0.0}"):
        labelled(rows, inverse)


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
    with pytest.raises(ValueError, match="a non-zero goal, got zeros"):
        CaptionReward(module.head, torch.zeros(5))
