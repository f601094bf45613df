"""An endpoint: requests, the error of each failure, and a key that never leaks."""

import json
import logging
import pickle
import time
import traceback

import pytest
from toy_server import ToyServer, completion

from worldblocks.language import (
    CachedLM,
    EndpointLM,
    LanguageError,
    Malformed,
    MissingCapability,
    MissingModel,
    Refused,
    TimedOut,
    Unavailable,
)

ASK = [{"role": "system", "content": "be short"}, {"role": "user", "content": "capital of France?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CANARY = "sk-canary-8f3b1c"
GOOD = (200, completion("Paris"))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def ask(server, **options):
    return model(server, **options).generate(ASK, max_tokens=8)


def model(server, *, timeout=5.0, pause=0.0, **options):
    return EndpointLM(server.url, "toy", timeout=timeout, pause=pause, **options)


def test_requests():
    with ToyServer(GOOD) as server:
        assert ask(server) == "Paris"
        model(server).generate(ASK, max_tokens=9, temperature=0.5, seed=3)
    (path, first), (_, second) = server.asked
    assert path == "/v1/chat/completions"
    assert first == {"model": "toy", "messages": ASK, "max_tokens": 8, "temperature": 0.0}
    assert second == first | {"max_tokens": 9, "temperature": 0.5, "seed": 3}
    assert "Authorization" not in server.headers[0]


def test_a_schema_is_sent_and_its_reply_is_json():
    with ToyServer((200, completion('{"city": "Paris"}')), (200, completion('{"city": "Pa'))) as it:
        reply = model(it).generate(ASK, max_tokens=8, schema=SCHEMA)
        assert json.loads(reply) == {"city": "Paris"}
        with pytest.raises(Malformed, match=r"was asked for JSON and replied with .* more max_tok"):
            model(it).generate(ASK, max_tokens=8, schema=SCHEMA)
    form = it.asked[0][1]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_transient_statuses_are_retried(status):
    with ToyServer((status, "busy"), (status, "busy"), GOOD) as server:
        assert ask(server) == "Paris"
        assert len(server.asked) == 3
    with ToyServer((status, "busy")) as server:
        wanted = rf"endpoint:toy answered with status {status}: 'busy' \(tried 3 times\)"
        with pytest.raises(Unavailable, match=wanted):
            ask(server)
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_other_statuses_are_not_retried(status):
    with ToyServer((status, '{"error": "no such thing"}')) as server:
        with pytest.raises(Refused, match=f"status {status}: .*no such thing") as raised:
            ask(server)
        assert len(server.asked) == 1
    hint = "check the key in the environment variable that api_key_env names"
    assert (hint in str(raised.value)) == (status in (401, 403))


def test_silence_is_a_timeout_after_all_tries():
    with ToyServer(0.4) as server:
        start = time.monotonic()
        with pytest.raises(TimedOut, match=r"no answer within 0.1 s \(tried 2 times\)"):
            ask(server, timeout=0.1, retries=1)
        assert time.monotonic() - start < 2
        assert len(server.asked) == 2


def test_a_reply_that_trickles_is_a_timeout():
    with ToyServer(0.2) as server, pytest.raises(TimedOut, match=r"within 0.3 s$"):
        ask(server, timeout=0.3, retries=0)


def test_pauses_double_and_follow_the_server_within_a_bound(monkeypatch):
    slept = []
    monkeypatch.setattr("worldblocks.language.backends.transport.time.sleep", slept.append)
    answers = [(500, ""), (500, ""), (429, "", {"Retry-After": "7"})]
    answers += [(429, "", {"Retry-After": "9999"}), (429, "", {"Retry-After": "Mon"}), GOOD]
    with ToyServer(*answers) as server:
        assert ask(server, pause=0.5, retries=5) == "Paris"
    assert [pause for pause in slept if pause] == [0.5, 1.0, 7.0, 60.0, 8.0]


def test_a_server_that_is_not_there():
    with ToyServer(GOOD) as server:
        pass
    with pytest.raises(Unavailable, match=r"could not be reached: 'ConnectionRefused.*tried 2"):
        ask(server, retries=1)


def test_a_connection_that_breaks_is_tried_again():
    with ToyServer((200, "", {"Content-Length": "50"}), GOOD) as server:
        assert ask(server, timeout=0.3) == "Paris"


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("<html><body>Log in</body></html>", "expected JSON, got '<html><body>Log in.*of an API"),
        ("", "expected JSON, got ''"),
        ('{"choices": [', "expected JSON, got"),
        ("[" * 100_000, "expected JSON, got"),
        (b"\xff\xfe", "expected JSON"),
        ("[]", r"without choices\[0\].message.content: \[\]; does the server"),
        ('{"choices": []}', "without choices"),
        ('{"choices": [{"message": {"tool_calls": []}}]}', "without choices"),
        (completion(None), "replied with None, expected a text"),
        (completion("  \n"), ", expected a text"),
        (completion("x" * 1_000_001), "sent more than 1000000 bytes; the rest is not read"),
        ("\u2028" * 400_000, "sent more than 1000000 bytes"),
    ],
)
def test_malformed_replies_are_not_retried(body, wanted):
    with ToyServer((200, body)) as server:
        with pytest.raises(Malformed, match=wanted):
            ask(server)
        assert len(server.asked) == 1


def test_redirects_are_not_followed(monkeypatch):
    monkeypatch.setenv("TOY_KEY", CANARY)
    with ToyServer(GOOD) as other, ToyServer((302, "", {"Location": other.url})) as server:
        with pytest.raises(Refused, match=r"status 302: .*redirects are not followed"):
            ask(server, api_key_env="TOY_KEY")
        assert other.asked == []


def test_the_key_is_sent_and_seen_nowhere_else(monkeypatch, tmp_path, caplog, capfd):
    """Even where the server quotes it: in errors, replies, the cache, `repr`, pickles, logs."""
    monkeypatch.setenv("TOY_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    quoting = [(status, f"bad key {CANARY}") for status in (401, 500)]
    quoting += [(200, CANARY), (200, json.dumps({"key": CANARY})), (200, completion(CANARY))]
    seen = []
    for answer in quoting:
        with ToyServer(answer) as server:
            lm = model(server, api_key_env="TOY_KEY", retries=1)
            cached = CachedLM(lm, tmp_path / "cache.jsonl")
            try:
                seen.append(cached.generate(ASK, max_tokens=8))
            except LanguageError as error:
                seen += [str(error), repr(error), *traceback.format_exception(error)]
                frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
                seen += [repr(frame.f_locals) for frame in frames]
            assert server.headers[0]["Authorization"] == f"Bearer {CANARY}"
            seen += [repr(lm), repr(vars(lm)), lm.name, lm.identity, repr(vars(cached))]
            seen.append(pickle.dumps(vars(lm)).decode("latin-1"))
    seen += [(tmp_path / "cache.jsonl").read_text(), caplog.text, *capfd.readouterr()]
    assert len(seen) > 30
    assert not [text for text in seen if CANARY in text]
    assert "<key>" in (tmp_path / "cache.jsonl").read_text()


def test_a_key_that_would_break_a_header_is_not_quoted(monkeypatch):
    for key in (f"{CANARY}\nHost: elsewhere", f"{CANARY} 2", f"{CANARY}é"):
        monkeypatch.setenv("TOY_KEY", key)
        with pytest.raises(ValueError, match="the key in TOY_KEY has characters") as raised:
            EndpointLM("http://127.0.0.1/v1", "toy", api_key_env="TOY_KEY")
        assert CANARY not in "".join(traceback.format_exception(raised.value))


def test_a_key_in_the_wrong_place_is_refused_without_quoting_it(monkeypatch):
    with pytest.raises(ValueError, match="takes the name of an environment variable") as raised:
        EndpointLM("http://127.0.0.1/v1", "toy", api_key_env=CANARY)
    assert CANARY not in str(raised.value)
    for address in (f"https://me:{CANARY}@host/v1", f"https://host/v1?key={CANARY}"):
        with pytest.raises(ValueError, match="at 'host' with a password or a query") as raised:
            EndpointLM(address, "toy")
        assert CANARY not in str(raised.value)
    monkeypatch.delenv("TOY_KEY", raising=False)
    with pytest.raises(MissingModel, match="needs a key: export TOY_KEY=… in the shell"):
        EndpointLM("http://127.0.0.1/v1", "toy", api_key_env="TOY_KEY")


def test_wrong_arguments():
    for address in ("file:///etc/passwd", "127.0.0.1:80", "http://", "ftp://host/v1"):
        with pytest.raises(ValueError, match=r"takes an address such as 'http://127.0.0.1:8080/v1"):
            EndpointLM(address, "toy")
    for wrong in ({"timeout": 0.0}, {"retries": -1}, {"pause": -0.5}):
        with pytest.raises(ValueError, match="takes a timeout above 0 and retries and a pause"):
            EndpointLM("http://127.0.0.1/v1", "toy", **wrong)


def test_missing_capabilities():
    lm = EndpointLM("http://127.0.0.1:1/v1/", "toy")
    assert (lm.name, lm.identity) == ("endpoint:toy", "http://127.0.0.1:1/v1 toy")
    with pytest.raises(MissingCapability, match="cannot score; PackagedLM or TransformersLM can"):
        lm.score(["a"], ["b"])
