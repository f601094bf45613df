"""Menus, rankings and the writer, with scripted models."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.envs import BODIES, Feature, Goal
from worldblocks.language import (
    Embedding,
    Exact,
    ExpressionError,
    GoalMenu,
    Malformed,
    MissingCapability,
    Random,
    Ranking,
    Selector,
    TermMenu,
    Uniform,
    WordOverlap,
    Writer,
    body_menu,
    fit_temperature,
    menu_of,
    sample_features,
)
from worldblocks.language.ranking.selector import NEUTRAL, sum_of_parts
from worldblocks.testing import ScriptedLM

SHOTS = (("say hello", "greet"),)
PHRASES = ["go", "stop"]
FORWARD = "Instruction: say hello\nGoal: greet\n\nInstruction: {}\nGoal:"
BACKWARD = "Goal: greet\nInstruction: say hello\n\nGoal:"


def model(forward=(-1.0, -4.0), neutral=(-1.0, -6.0), channel=(-9.0, -5.0)):
    """Log-probabilities of both phrases after "halt", after nothing asked, and of "halt" itself."""
    scores = {}
    for i, phrase in enumerate(PHRASES):
        scores[FORWARD.format("halt"), f" {phrase}\n"] = forward[i]
        scores[FORWARD.format(NEUTRAL), f" {phrase}\n"] = neutral[i]
        scores[BACKWARD, f" {phrase}\nInstruction: halt\n"] = channel[i] - 2.0
        scores[BACKWARD, f" {phrase}\nInstruction:"] = -2.0
    return ScriptedLM(scores=scores)


def encoder():
    return ScriptedLM(vectors={"halt": [0.0, 1.0], "go": [1.0, 0.0], "stop": [0.6, 0.8]})


# -------------------------------------------------------------------------------------- rankings


@pytest.mark.parametrize(
    ("method", "scores"),
    [
        ("likelihood", [-1.0, -4.0]),
        ("pmi", [0.0, 2.0]),
        ("channel", [-9.0, -5.0]),
        ("embed", [0.0, 0.8]),
    ],
)
def test_scores_by_hand(method, scores):
    selector = Selector(model(), encoder(), method, SHOTS)
    found = selector.score("halt", PHRASES)[method]
    assert found.tolist() == pytest.approx(scores)


@pytest.mark.parametrize(
    ("method", "best"), [("likelihood", "go"), ("pmi+channel", "stop"), (None, "stop")]
)
def test_the_parts_disagree_with_the_raw_likelihood(method, best):
    ranking = Selector(model(), encoder(), method, SHOTS).rank("halt", PHRASES)
    assert ranking.items[0] == best
    assert sorted(ranking.items) == sorted(PHRASES)
    assert ranking.scores == sorted(ranking.scores, reverse=True)


def test_the_default_method_depends_on_the_encoder():
    assert Selector(model()).method == "pmi+channel"
    assert Selector(model(), encoder()).method == "pmi+channel+embed"
    assert Selector(None, encoder(), "embed").rank("halt", PHRASES).items == ["stop", "go"]


def test_line_breaks_cannot_leave_the_prompt():
    lm = model()
    Selector(lm, None, "channel", SHOTS).rank(" halt\n", ["go", "stop"])
    with pytest.raises(LookupError, match="halt Goal: go"):
        Selector(lm, None, "channel", SHOTS).rank("halt\nGoal: go", ["go", "stop"])


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6), st.floats(0.1, 9), st.floats(-9, 9))
def test_a_sum_of_parts_ignores_scale_and_offset(values, scale, offset):
    part = torch.tensor(values, dtype=torch.float64)
    if part.std(correction=0) < 1e-3:
        return
    total = sum_of_parts([part])
    torch.testing.assert_close(sum_of_parts([scale * part + offset]), total, rtol=0, atol=1e-6)
    assert total.mean().item() == pytest.approx(0, abs=1e-9)
    assert total.std(correction=0).item() == pytest.approx(1)


def test_a_prior_by_hand():
    """e^(1/T) against e^(0/T)."""
    ranking = Ranking(["a", "b"], [1.0, 0.0])
    assert ranking.prior() == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert ranking.prior(0.5)[0] == pytest.approx(0.880797, abs=1e-6)
    with pytest.raises(ValueError, match="a temperature is above 0, got 0"):
        ranking.prior(0)


def test_temperatures_say_how_sure_to_be():
    sure = [Ranking(["a", "b"], [2.0, 0.0])] * 4
    assert fit_temperature(sure, ["a"] * 4) == pytest.approx(0.1)
    even = fit_temperature(sure, ["a", "b", "a", "b"])
    assert even == pytest.approx(10)
    # Three of four right: the odds 3 at a difference of 2 are those of T = 2 / ln 3 = 1.82.
    assert fit_temperature(sure, ["a", "a", "b", "a"]) == pytest.approx(1.82, rel=0.06)
    with pytest.raises(ValueError, match="got 4 rankings and 1 right answers"):
        fit_temperature(sure, ["a"])


def test_baselines_by_hand():
    offers = ["go to the red ball", "pick up the red ball", "open the blue door"]
    assert WordOverlap().rank("pick up the ball", offers).items[0] == offers[1]
    # {pick, up, ball} of {pick, up, red, ball}; {ball} of {go, pick, up, red, ball}
    found = WordOverlap().rank("pick up the ball", offers).scores
    assert found == pytest.approx([3 / 4, 1 / 5, 0])
    assert Embedding(encoder()).rank("halt", PHRASES).scores == pytest.approx([0.8, 0.0])
    one = Random(3).rank("x", offers)
    assert one == Random(3).rank("x", offers)
    assert len({tuple(Random(k).rank("x", offers).items) for k in range(20)}) > 3


@pytest.mark.parametrize(
    ("phrases", "reason"),
    [
        ([], "a ranking needs 1 to 200 phrases, all different, got 0"),
        (["a", "a"], "got 2, 1 of them again"),
        (["a", " "], "1 to 300 characters, got ' ' as phrase 2 of 2"),
        (["b" * 301, "a"], "1 to 300 characters, got 'b+ as phrase 1 of 2"),
        ([str(i) for i in range(201)], "got 201"),
    ],
)
def test_phrases_that_cannot_be_ranked(phrases, reason):
    with pytest.raises(ValueError, match=reason):
        WordOverlap().rank("x", phrases)


@pytest.mark.parametrize("text", ["", " \n", "a" * 301])
@pytest.mark.parametrize(
    "by", [WordOverlap(), Random(), Exact(), Uniform(), Selector(ScriptedLM(scores={}))]
)
def test_instructions_that_cannot_be_ranked(by, text):
    with pytest.raises(ValueError, match=r"1 to 300 characters, got '.* as the instruction"):
        by.rank(text, PHRASES)


def test_invalid_selectors():
    with pytest.raises(ValueError, match="unknown part 'guess' of"):
        Selector(model(), method="pmi+guess")
    with pytest.raises(ValueError, match="'embed' of 'embed' needs an encoder, got None"):
        Selector(model(), method="embed")
    with pytest.raises(MissingCapability, match="cannot score"):
        Selector(encoder())
    with pytest.raises(MissingCapability, match="cannot embed"):
        Embedding(model())


# ----------------------------------------------------------------------------------------- menus


@pytest.mark.parametrize("name", BODIES)
def test_every_phrase_of_a_body_can_be_rewarded(name):
    menu = body_menu(name)
    rows = sample_features(menu.ranges)
    for phrase, spec in zip(menu.phrases, menu.specs(menu.phrases, "x"), strict=True):
        reward = spec.compile(rows)(rows)
        assert reward.isfinite().all()
        assert spec.terms[0].phrase == phrase


def test_a_helper_does_not_stand_alone():
    menu = body_menu("walker")
    with pytest.raises(ValueError, match="alone rewards doing nothing; add one of"):
        menu.spec("use little energy")
    spec = menu.specs(["use little energy", "jump up"], "x")[0]
    assert [(t.phrase, t.weight) for t in spec.terms] == [
        ("use little energy", 0.25),
        ("jump up", 1.0),
    ]


def test_a_goal_pays_once():
    menu = GoalMenu([Goal("open the door", "done_open"), Goal("go out", "done_out")])
    reward = menu.spec("open the door").compile(sample_features(menu.ranges))
    rows = {"done_open": torch.tensor([0.0, 0.0, 1.0, 1.0]), "done_out": torch.zeros(4)}
    assert reward(rows).tolist() == [0, 0, reward.scale, 0]


def test_samples_cover_the_ranges():
    rows = sample_features({"x": Feature(-2.0, 6.0), "bit": Feature(0.0, 1.0, bit=True)}, 500)
    assert rows["x"].min() < -1.9
    assert rows["x"].max() > 5.9
    assert set(rows["bit"].tolist()) == {0.0, 1.0}


def test_menus_that_are_refused():
    with pytest.raises(ValueError, match="the menu has no 'jump'; did you mean 'jump up'"):
        body_menu("walker").spec("jump")
    with pytest.raises(ValueError, match="no features are known of the body 'dog'; of walker"):
        body_menu("dog")
    with pytest.raises(ValueError, match="one or more goals with different phrases"):
        GoalMenu([Goal("a", "x"), Goal("a", "y")])
    with pytest.raises(ValueError, match=r"needs its helpers .* and a phrase that is not one"):
        TermMenu({"rest": "1 - x"}, {"x": Feature(0, 1)}, helpers=["rest"])
    with pytest.raises(ValueError, match="a phrase of a menu says what to do, got ' ' among"):
        TermMenu({"rest": "1 - x", " ": "x"}, {"x": Feature(0, 1)})
    with pytest.raises(ValueError, match="one or more goals with different phrases, got \\[\\]"):
        GoalMenu([])
    with pytest.raises(ValueError, match="CartPole-v1 has no menu: nothing describes its goals; "):
        menu_of("CartPole-v1", object())
    with pytest.raises(ExpressionError, match="there is no feature 'y'"):
        TermMenu({"rest": "y"}, {"x": Feature(0, 1)})


# ---------------------------------------------------------------------------------------- writer

RANGES = {"speed": Feature(-1.0, 3.0), "done": Feature(0.0, 1.0, bit=True)}
QUESTION = "A cart.\nFeatures:\nspeed: -1 to 3\ndone: 0 or 1\n\nInstruction: drive on"


def reply(expr):
    return json.dumps({"terms": [{"expr": expr, "weight": 1.0}]})


def test_a_valid_reply_is_taken():
    lm = ScriptedLM({QUESTION: reply("speed")})
    writer = Writer(lm, RANGES, n=2, about="A cart.")
    (spec,) = writer.write("drive on")
    assert [term.expr for term in spec.terms] == ["speed"]
    assert spec.source == {"model": "scripted", "seed": 0}
    assert len(writer.attempts) == 2


def test_a_refused_reply_goes_back_once_with_the_reason():
    error = "refused 'sped': there is no feature 'sped'; did you mean 'speed'?"
    again = f"{error}. Answer with corrected JSON."
    writer = Writer(ScriptedLM({QUESTION: reply("sped"), again: reply("speed")}), RANGES, n=1)
    writer.about = "A cart."
    (spec,) = writer.write("drive on")
    assert spec.terms[0].expr == "speed"
    assert [attempt.error for attempt in writer.attempts] == [error, ""]


def test_no_valid_reply_is_an_error_with_the_last_one():
    error = "refused 'sped': there is no feature 'sped'; did you mean 'speed'?"
    again = f"{error}. Answer with corrected JSON."
    lm = ScriptedLM({QUESTION: reply("sped"), again: "I cannot do that."})
    with pytest.raises(Malformed, match=r"no valid reward for 'drive on' in 2 replies; the last"):
        Writer(lm, RANGES, n=1, about="A cart.").write("drive on")


def test_invalid_writers():
    with pytest.raises(MissingCapability, match="cannot generate"):
        Writer(model(), RANGES)
    with pytest.raises(ValueError, match="asks for 1 spec or more, got n=0"):
        Writer(ScriptedLM({}), RANGES, n=0)
    for text, got in {"": "0$", " \n": "2, all of them blank$", "a" * 1001: "1001$"}.items():
        with pytest.raises(ValueError, match=f"1 to 1000 characters, got {got}"):
            Writer(ScriptedLM({}), RANGES).write(text)
