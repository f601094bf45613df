"""Reward specs: JSON both ways, limits, compiled functions, the schema."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.language import ExpressionError, RewardSpec, RewardTerm, reward_schema

SAMPLE = {"speed": torch.linspace(-1, 3, 41), "done": torch.tensor([0.0, 1.0] * 20 + [0.0])}
WALK = RewardSpec((RewardTerm("above(speed, 1)", 2.0, "walk"), RewardTerm("speed", -0.5)), "walk!")


def test_a_spec_is_a_weighted_sum_scaled_to_its_95th_percentile():
    """2·[speed ≥ 1] - speed / 2 over -1, -0.9 … 3: |sum| reaches 1.5 at speed 1."""
    reward = WALK.compile(SAMPLE)
    by_hand = 2 * (SAMPLE["speed"] >= 1).float() - SAMPLE["speed"] / 2
    high = torch.quantile(by_hand.abs(), 0.95)
    assert reward.scale == pytest.approx(1 / high.item())
    torch.testing.assert_close(reward(SAMPLE), by_hand / high)
    assert torch.quantile(reward(SAMPLE).abs(), 0.95).item() == pytest.approx(1)
    assert (reward.names, reward.temporal) == (["speed"], False)


def test_a_reward_stays_within_ten():
    reward = RewardSpec((RewardTerm("speed"),)).compile({"speed": torch.tensor([0.0, 1.0])})
    assert reward({"speed": torch.tensor([1e6, -1e6])}).tolist() == [10, -10]


def test_an_event_that_almost_never_happens_is_not_scaled_away():
    rare = torch.zeros(100)
    rare[-1] = 1
    assert RewardSpec((RewardTerm("rise(x)"),)).compile({"x": rare}).scale == 1


def test_parts_are_before_weight_and_scale():
    parts = WALK.compile(SAMPLE).parts({"speed": torch.tensor([2.0])})
    assert {text: x.item() for text, x in parts.items()} == {"above(speed, 1)": 1, "speed": 2}


def test_gradients_reach_the_features():
    speed = torch.tensor([0.5, 2.0], requires_grad=True)
    reward = RewardSpec((RewardTerm("near(speed, 1, 1)"),)).compile(SAMPLE)
    reward({"speed": speed}).sum().backward()
    assert speed.grad[0] > 0 > speed.grad[1]


def test_a_compiled_reward_captures(same_when_compiled):
    terms = (
        "rise(done)",
        "near(speed, 1, 0.5) * (speed if done > 0 else delta(speed)) + min(1, done)",
    )
    reward = RewardSpec(tuple(map(RewardTerm, terms))).compile(SAMPLE)
    first = torch.zeros(2, 3, dtype=torch.bool)
    speed, done = torch.randn(2, 3), torch.rand(2, 3)
    same_when_compiled(lambda s, d: reward({"speed": s, "done": d}, first), speed, done)


def test_bfloat16_features_give_a_float32_reward():
    found = WALK.compile(SAMPLE)({"speed": torch.tensor([2.0], dtype=torch.bfloat16)})
    assert found.dtype == torch.float32


terms = st.builds(
    RewardTerm,
    st.text(min_size=1, max_size=30),
    st.floats(-10, 10).filter(lambda x: x != 0),
    st.text(max_size=10),
)
numbers = st.integers(-9, 9) | st.text(max_size=5)


@given(
    st.lists(terms, min_size=1, max_size=6).map(tuple),
    st.text(max_size=50),
    st.dictionaries(st.text(max_size=5), numbers, max_size=3),
)
def test_json_and_back(terms, instruction, source):
    spec = RewardSpec(terms, instruction, source)
    assert RewardSpec.from_json(spec.to_json()) == spec
    assert RewardSpec.from_json(spec.to_json(indent=1)) == spec


def test_json_by_hand():
    spec = RewardSpec.from_json('{"terms": [{"expr": "speed"}, {"expr": "done", "weight": 3}]}')
    assert spec == RewardSpec((RewardTerm("speed"), RewardTerm("done", 3)))
    assert hash(spec) == hash(RewardSpec.from_json(spec.to_json()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no json", "which is not JSON"),
        ('{"terms": [', "which is not JSON"),
        ("[" * 9000, "which is not JSON"),
        ("9" * 5000, "which is not JSON"),
        ('{"terms": [{"expr": "x", "weight": NaN}]}', "NaN is not a number"),
        ('{"terms": [{"expr": "x", "weight": Infinity}]}', "Infinity is not a number"),
        ('{"terms": [{"expr": "x", "weight": 1e999}]}', "the weight inf"),
        ('{"terms": [{"expr": "x", "weight": 11}]}', "the weight 11; use a number up to ±10"),
        ('{"terms": [{"expr": "x", "weight": true}]}', "the weight True"),
        ('{"terms": [{"expr": "x", "weight": "1"}]}', "the weight '1'"),
        ('{"terms": [{"expr": "x", "weight": 0}]}', "weights that are all 0"),
        ('{"terms": [{"expr": 3}]}', "the expression 3"),
        ('{"terms": [{"expr": ""}]}', "the expression ''; use 1 to 400 characters"),
        ('{"terms": [{"expr": "x", "phrase": 3}]}', "the phrase 3"),
        ('{"terms": [{"weight": 1}]}', "a term with ['weight']; use an object of"),
        ('{"terms": [{"expr": "x", "code": "y"}]}', "a term with ['code', 'expr']"),
        ('{"terms": ["x"]}', "a term with 'x'"),
        ('{"terms": []}', "the terms []; use a list of 1 to 6 objects"),
        ('{"terms": 3}', "the terms 3"),
        ('{"instruction": "x"}', "a reward spec with ['instruction']"),
        ('{"terms": [{"expr": "x"}], "instruction": 3}', "the instruction"),
        ('{"terms": [{"expr": "x"}], "source": 3}', "the source 3; use an object"),
        ("[1, 2]", "a reward spec with [1, 2]"),
        ("3", "a reward spec with 3"),
        (" " * 30_000, "use JSON of up to 20000 characters"),
        (None, "a spec of None"),
    ],
)
def test_json_that_is_refused(text, reason):
    with pytest.raises(ExpressionError) as caught:
        RewardSpec.from_json(text)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


def test_limits_in_python():
    with pytest.raises(ExpressionError, match="use a tuple of 1 to 6 RewardTerm"):
        RewardSpec((RewardTerm("speed"),) * 7)
    with pytest.raises(ExpressionError, match="the weight nan"):
        RewardTerm("speed", math.nan)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ({"speed": torch.zeros(1)}, "with two rows or more of every feature"),
        ({"speed": torch.zeros(3), "x": torch.zeros(2)}, "in one shape"),
        ({"speed": torch.tensor([0.0, math.nan])}, "the sample of 'speed' has NaN or inf"),
        ({"speed": torch.zeros(3)}, "it is 0 everywhere on the sample"),
    ],
)
def test_samples_that_are_refused(sample, reason):
    with pytest.raises(ExpressionError, match=reason):
        RewardSpec((RewardTerm("speed"),)).compile(sample)


def test_terms_that_cancel_are_refused():
    spec = RewardSpec((RewardTerm("speed"), RewardTerm("speed", -1.0)))
    with pytest.raises(ExpressionError, match="terms that cancel reward nothing"):
        spec.compile(SAMPLE)


def test_a_term_that_stops_being_finite_names_its_features():
    reward = RewardSpec((RewardTerm("1 / speed"),)).compile({"speed": torch.tensor([1.0, 2.0])})
    reward.check({"speed": torch.ones(3)})
    with pytest.raises(ValueError, match=r"'1 / speed' is inf at {'speed': 0.0}; it was finite"):
        reward.check({"speed": torch.tensor([1.0, 0.0])})


def test_the_schema_names_features_and_functions():
    schema = reward_schema({"speed": None})
    text = json.dumps(schema)
    assert "features: speed;" in text
    assert "near(x, target, width)" in text
    assert schema["properties"]["terms"]["maxItems"] == 6
    assert "features" not in json.dumps(reward_schema())
