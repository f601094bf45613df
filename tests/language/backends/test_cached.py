"""The cache: replay without the model, keys, half-written lines."""

import contextlib
import json
import multiprocessing
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worldblocks.language import CachedLM, Malformed, MissingCapability, NotCached
from worldblocks.language.backends.entries import key_of, pack, scored, unpack
from worldblocks.testing import ScriptedLM

ASK = [{"role": "user", "content": "which goal?"}]
PAIRS = ["go to the", "go to the red"], [" ball", " key"]


def scripted():
    return ScriptedLM(
        {"which goal?": "the ball"},
        scores=dict(zip(zip(*PAIRS, strict=True), [-1.123456789, -2.0], strict=True)),
        vectors={"a": [0.6, 0.8], "b": [1.0, 0.0], "c": [0.0, 1.0]},
    )


def use(model):
    return [model.generate(ASK, max_tokens=4), model.score(*PAIRS), model.embed(["b", "a", "b"])]


def test_each_question_is_asked_once_and_replayed_without_the_model(tmp_path):
    path, inner = tmp_path / "deep" / "cache.jsonl", scripted()
    first = use(CachedLM(inner, path))
    assert len(inner.asked) == 1 + 2 + 2
    again = [use(CachedLM(inner, path)), use(CachedLM(None, path, offline=True))]
    assert len(inner.asked) == 5
    for reply, scores, vectors in [first, *again]:
        assert reply == "the ball"
        assert scores.tolist() == torch.tensor([-1.12346, -2.0]).tolist()
        wanted = torch.tensor([[1, 0], [0.6, 0.8], [1, 0]])
        torch.testing.assert_close(vectors, wanted, rtol=1e-3, atol=0)
        assert torch.equal(vectors, first[2])
    offline = CachedLM(None, path, offline=True)
    assert (offline.name, offline.identity) == ("scripted", inner.identity)
    assert offline.capabilities == {"generate", "score", "embed"}
    assert len(offline) == 4


def test_a_line_holds_the_request(tmp_path):
    path, inner = tmp_path / "cache.jsonl", scripted()
    use(CachedLM(inner, path, template="v2"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    model = {"name": "scripted", "identity": inner.identity, "template": "v2"}
    assert [line.pop("key") for line in lines] == [key_of(line) for line in lines]
    assert lines[0] == model | {
        "method": "generate",
        "messages": ASK,
        "max_tokens": 4,
        "temperature": 0.0,
        "seed": None,
        "schema": None,
        "reply": "the ball",
    }
    assert lines[1] == model | {
        "method": "score",
        "context": "go to the",
        "contexts": ["", " red"],
        "completions": [" ball", " key"],
        "reply": [-1.12346, -2.0],
    }
    assert {line["text"] for line in lines[2:]} == {"a", "b"}


def test_any_change_is_another_request(tmp_path):
    path = tmp_path / "cache.jsonl"
    use(CachedLM(scripted(), path))
    offline = CachedLM(scripted(), path, offline=True)
    others = [
        lambda: offline.generate(ASK, max_tokens=5),
        lambda: offline.generate(ASK, max_tokens=4, seed=0),
        lambda: offline.generate(ASK, max_tokens=4, temperature=0.5, seed=0),
        lambda: offline.generate(ASK, max_tokens=4, schema={}),
        lambda: offline.generate([{"role": "system", "content": "which goal?"}], max_tokens=4),
        lambda: offline.score(PAIRS[0][:1], PAIRS[1][:1]),
        lambda: offline.score(PAIRS[0][::-1], PAIRS[1]),
        lambda: offline.embed(["a", "c"]),
        lambda: CachedLM(scripted(), path, offline=True, template="2").embed(["a"]),
        lambda: CachedLM(ScriptedLM(vectors={}), path, offline=True).embed(["a"]),
    ]
    for ask in others:
        with pytest.raises(NotCached, match=r"has no reply of scripted to .* it is offline: run"):
            ask()
    assert offline.generate(ASK, max_tokens=4, temperature=0) == "the ball"


def test_keys_hold_temperature_and_seed(tmp_path):
    """And the model is asked for the very draw."""
    asked = []

    class Warm(ScriptedLM):
        def generate(self, messages, **options):
            asked.append(options)
            return f"{options['temperature']} {options['seed']}"

    model = CachedLM(Warm({}), tmp_path / "cache.jsonl")
    for _ in range(2):
        for temperature, seed in ((0.5, 0), (1.0, 0), (0.5, 1)):
            reply = model.generate(ASK, max_tokens=4, temperature=temperature, seed=seed)
            assert reply == f"{temperature} {seed}"
    assert len(asked) == 3
    assert all(options["max_tokens"] == 4 for options in asked)


def test_malformed_replies_are_not_stored(tmp_path):
    class Broken(ScriptedLM):
        def generate(self, messages, **options):
            return "{not json" if options["schema"] else " "

        def score(self, contexts, completions):
            return torch.tensor([float("nan")])

    path = tmp_path / "cache.jsonl"
    model = CachedLM(Broken({}, scores={}), path)
    with pytest.raises(Malformed, match=r"replied with ' ', expected a text"):
        model.generate(ASK, max_tokens=4)
    with pytest.raises(Malformed, match=r"was asked for JSON and replied with '{not json'"):
        model.generate(ASK, max_tokens=4, schema={"type": "object"})
    with pytest.raises(Malformed, match=r"scores that are not finite: \[nan\]"):
        model.score(["a"], ["b"])
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_a_half_written_last_line_is_skipped(tmp_path, cut):
    path, inner = tmp_path / "cache.jsonl", scripted()
    use(CachedLM(inner, path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    if cut == 1:  # only the end of the line is missing
        model = CachedLM(inner, path)
    else:
        with pytest.warns(UserWarning, match=r"1 half-written line\(s\), left by a killed process"):
            model = CachedLM(inner, path)
    first = use(model)
    model.embed(["c"])
    with pytest.warns(UserWarning, match="half-written") if cut > 1 else contextlib.nullcontext():
        again = CachedLM(None, path, offline=True)
    assert len(again) == 5
    assert torch.equal(use(again)[2], first[2])


def test_an_edited_line_is_refused(tmp_path):
    path = tmp_path / "cache.jsonl"
    use(CachedLM(scripted(), path))
    text = path.read_text(encoding="utf-8")
    for old, new in (
        ('"which goal?"', '"which aim?"'),
        ('"reply": "the ball"', '"reply": ""'),
        ("-2.0]", '"-2"]'),
    ):
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(
            ValueError, match=r"line [12] of .* is not as the cache wrote it: its key"
        ):
            CachedLM(scripted(), path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1 of"):
        CachedLM(scripted(), path)


class Same(ScriptedLM):
    identity = "the same in every process"


def write(path, who):
    texts = [f"{who} {i} {'x' * 3000}" for i in range(20)]
    model = CachedLM(Same(vectors={text: [float(who), 1.0] for text in texts}), path)
    for text in texts:
        model.embed([text])


def test_processes_write_to_one_file(tmp_path):
    path = tmp_path / "cache.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(path, who)) for who in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(CachedLM(None, path, offline=True)) == 60


def test_invalid_arguments(tmp_path):
    path = tmp_path / "cache.jsonl"
    with pytest.raises(ValueError, match="no model to ask; give one, or replay with offline=True"):
        CachedLM(None, path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} has none; give the model"):
        CachedLM(None, path, offline=True)
    with pytest.raises(ValueError, match=r"a sample at temperature 1.0 without a seed"):
        CachedLM(scripted(), path).generate(ASK, max_tokens=4, temperature=1.0)
    with pytest.raises(MissingCapability, match="scripted cannot embed; SentenceEncoder can"):
        CachedLM(ScriptedLM({}), path).embed(["a"])

    class Anonymous(ScriptedLM):
        identity = ""

    with pytest.raises(ValueError, match="got scripted, which has no identity"):
        CachedLM(Anonymous({}), path)
    use(CachedLM(scripted(), path))
    CachedLM(ScriptedLM(vectors={"a": [1.0]}), path).embed(["a"])
    with pytest.raises(ValueError, match=r"a file of one model, .* has scripted, scripted"):
        CachedLM(None, path, offline=True)


texts = st.text(st.characters(exclude_categories=[]), max_size=8)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_keys_of_scores_differ(pairs):
    """A question can be read back from its line, so that two of them are never the same line."""
    contexts, completions = map(list, zip(*pairs, strict=True))
    line = scored(contexts, completions)
    assert [line["context"] + rest for rest in line["contexts"]] == contexts
    assert line["completions"] == completions
    assert all(len(line["context"]) <= len(context) for context in contexts)


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=9))
def test_half_precision_is_kept_exactly(numbers):
    assert unpack(pack(torch.tensor(numbers).numpy())).tolist() == numbers


def test_any_text_can_be_kept(tmp_path):
    odd = "a\u2028b\x85c\r\nd\ud800 ‘é’ \x00"
    path = tmp_path / "cache.jsonl"
    first = CachedLM(ScriptedLM({odd: odd}), path).generate(
        [{"role": "user", "content": odd}], max_tokens=1
    )
    offline = CachedLM(None, path, offline=True)
    again = offline.generate([{"role": "user", "content": odd}], max_tokens=1)
    assert first == again == odd
