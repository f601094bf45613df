"""Replies of real servers: the one JSON object in whatever else a model wrote."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_server import ToyServer, completion

from worldblocks.envs import Feature
from worldblocks.language import (
    CachedLM,
    EndpointLM,
    LanguageModel,
    Malformed,
    MissingCapability,
    Refused,
    RewardTerm,
    Writer,
    reward_schema,
)
from worldblocks.language.backends.replies import check_json

RANGES = {"speed": Feature(-1.0, 3.0)}
WHOLE = '{"terms": [{"expr": "near(speed, 1, 0.5)", "weight": 2.0}]}'
WANTED = (RewardTerm("near(speed, 1, 0.5)", 2.0),)
CUT = WHOLE[:40]
MORE = "it was cut before the object was whole; give more max_tokens"

READ = {
    "plain": WHOLE,
    "indented": f"\n  {json.dumps(json.loads(WHOLE), indent=2)}\n",
    "byte order mark": f"\ufeff{WHOLE}",
    "mark in a fence": f"```json\n\ufeff{WHOLE}\n```",
    "fence": f"```\n{WHOLE}\n```",
    "named fence": f"```json\n{WHOLE}\n```",
    "fence that is not closed": f"```json\n{WHOLE}",
    "prose before": f"Sure! Here is the reward:\n\n{WHOLE}",
    "prose after": f'{WHOLE}\n\nIt pays near {{speed}} = 1, isn\'t that "right"?',
    "prose, fence, prose": f"Sure!\n```json\n{WHOLE}\n```\nAnything else? {{x}}",
    "thoughts": f"<think>\nspeed near 1: {WHOLE.replace('2.0', '1.0')}\n</think>\n\n{WHOLE}",
    "thoughts begun in the prompt": f'Maybe {{"terms": []}}?</think>{WHOLE}',
    "thinking, fence": f"<thinking>{{</thinking>```json\n{WHOLE}\n```",
    "comma after the last item": WHOLE.replace("}]", "},]").replace("2.0}", "2.0,\n}"),
    "in a list": f"Here: [{WHOLE}]",
    "channels": f"<|channel|>final<|message|>{WHOLE}<|return|>",
    "parts": [{"type": "thinking", "thinking": []}, {"type": "text", "text": WHOLE}],
}
REFUSED = {
    "nothing of the kind": ("I cannot do that.", "it has no object"),
    "prose with braces": ("Try {speed} or {x: 1}.", "it has no object"),
    "two objects": (f"{WHOLE}\nor\n{WHOLE}", "it has 2 objects, and one was asked for"),
    "two fences": (f"```\n{WHOLE}\n```\n```\n{WHOLE}\n```", "it has 2 objects, and one was asked"),
    "not JSON": (f"Sure! {WHOLE.replace(': [', ' [')}", "the object in it is not JSON (Expecting"),
    "cut": (CUT, MORE),
    "cut after prose": (f"Sure!\n```json\n{CUT}", MORE),
    "cut at its brace": ("Sure!\n{", MORE),
    "cut in a string": ('{"terms": [{"expr": "max(speed, {', MORE),
    "cut after a whole one": (f"{WHOLE}\nor\n{CUT}", MORE),
    "cut in thoughts": (f"<think>Maybe {WHOLE}, or", MORE),
    "empty": ("", "expected a text"),
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def write(*answers, schema=True, **options):
    """What a writer made of a server's answers, and what it was asked."""
    with ToyServer(*answers) as server:
        writer = Writer(
            EndpointLM(server.url, "toy", timeout=5.0, retries=0),
            RANGES,
            n=1,
            schema=schema,
            **options,
        )
        try:
            return writer.write("drive"), server.asked
        except (Malformed, Refused) as error:
            return str(error), server.asked


@pytest.mark.parametrize("schema", [True, False])
@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_the_one_object_is_read(content, schema):
    (spec,), asked = write((200, completion(content)), schema=schema)
    assert spec.terms == WANTED
    [(_, body)] = asked
    stated = json.dumps(reward_schema(RANGES)) in body["messages"][0]["content"]
    assert ("response_format" in body, stated) == (schema, not schema)


@pytest.mark.parametrize("schema", [True, False])
@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_object_is_a_sentence(content, reason, schema):
    """It goes back with the reason; a better second reply is taken."""
    found, asked = write((200, completion(content)), schema=schema)
    assert found.startswith("endpoint:toy wrote no valid reward for 'drive' in 2 replies")
    assert reason in found
    assert reason in asked[1][1]["messages"][-1]["content"]
    assert ("max_tokens" in found) == (reason == MORE)
    (spec,), _ = write((200, completion(content)), (200, completion(WHOLE)), schema=schema)
    assert spec.terms == WANTED


@pytest.mark.parametrize(
    ("content", "ended", "reason"),
    [
        (CUT, "length", MORE),
        (CUT, "stop", "the object in it does not end"),
        ("Let me think.", "length", MORE),
        ("Let me think.", "stop", "it has no object"),
        (f"{WHOLE} {WHOLE}", "length", "it has 2 objects"),
        (None, "length", "was cut at max_tokens=600 before it said anything; give more"),
        ("", "length", "was cut at max_tokens=600 before it said anything; give more"),
        (None, "stop", "replied with None, expected a text"),
    ],
)
def test_the_server_says_whether_it_was_cut(content, ended, reason):
    body = json.loads(completion(content))
    body["choices"][0]["finish_reason"] = ended
    found, _ = write((200, json.dumps(body)))
    assert reason in found
    assert ("give more max_tokens" in found) == ("cut" in reason)


def test_a_whole_object_that_prose_follows_may_be_cut():
    body = json.loads(completion(f"{WHOLE} This pays"))
    body["choices"][0]["finish_reason"] = "length"
    assert write((200, json.dumps(body)))[0][0].terms == WANTED


def test_more_tokens_can_be_given():
    _, asked = write((200, completion(WHOLE)), max_tokens=4000)
    assert asked[0][1]["max_tokens"] == 4000


def test_a_byte_order_mark_around_the_answer():
    assert write((200, f"\ufeff{completion(WHOLE)}"))[0][0].terms == WANTED


@pytest.mark.parametrize("status", [400, 404, 422])
def test_servers_without_schemas(status):
    """400 and 422 name what works; without a schema it does."""
    refusal = (status, '{"error": "response_format.type json_schema is not supported"}')
    found, asked = write(refusal)
    assert f"answered with status {status}: " in found
    assert ("Writer(model, ranges, schema=False)" in found) == (status in (400, 422))
    assert len(asked) == 1
    found, _ = write(refusal, schema=False)
    assert "schema=False" not in found


class Local(LanguageModel):
    """Generates, but refuses a schema as `TransformersLM` does."""

    name, capabilities, follows_schemas = "local", frozenset({"generate"}), False
    identity = "weights"

    def generate(self, messages, *, schema=None, **options):
        assert schema is None
        return f"Sure! {WHOLE}"


@pytest.mark.parametrize("cached", [False, True])
def test_models_that_follow_no_schema(cached, tmp_path):
    model = CachedLM(Local(), tmp_path / "replies.jsonl") if cached else Local()
    wanted = r"local cannot follow a schema; EndpointLM can, and Writer\(..., schema=False\) states"
    with pytest.raises(MissingCapability, match=wanted):
        Writer(model, RANGES)
    assert Writer(model, RANGES, n=1, schema=False).write("drive")[0].terms == WANTED


def test_a_local_model_is_refused_at_construction():
    pytest.importorskip("transformers", reason="needs the extra llm")
    from worldblocks.language import untrained_llama

    torch.manual_seed(0)
    model = untrained_llama(units=8, layers=1, heads=2)
    with pytest.raises(MissingCapability, match="cannot follow a schema; EndpointLM can, and Wri"):
        Writer(model, RANGES)
    model.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(Malformed, match="wrote no valid reward for 'drive' in 2 replies"):
        Writer(model, RANGES, n=1, schema=False, max_tokens=20).write("drive")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
prose = st.text(st.characters(exclude_characters="{<", codec="utf-8"), max_size=20)


@given(st.dictionaries(st.text(), values, min_size=1, max_size=3), prose, prose, st.booleans())
def test_any_object_is_found_in_prose(data, before, after, indented):
    text = json.dumps(data, indent=2 if indented else None)
    assert json.loads(check_json("x", f"{before}\n{text}\n{after}")) == data
    array = f"{before.replace('[', '')}\n{json.dumps([data, 1])}"
    assert json.loads(check_json("x", f"A\n{array}", {"type": "array"})) == [data, 1]


@pytest.mark.parametrize("piece", ['{"', "<think>", '\\"', ',  "', "[", "{", '{"":{}},'])
def test_long_nonsense_is_read_in_time(piece):
    """A server cannot keep a program busy: one pass over a megabyte."""
    with pytest.raises(Malformed):
        check_json("x", "y" + '{"' + piece * (300_000 // len(piece)))
