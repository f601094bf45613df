"""A local model: tokens and scores by hand, limits, capabilities, errors."""

import math

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra llm")

from worldblocks.language import (
    MissingCapability,
    MissingModel,
    Selector,
    TransformersLM,
    require,
    untrained_llama,
)

CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return untrained_llama(units=16, layers=2, heads=2, context=300)


@pytest.fixture
def uniform():
    """Predicts its 257 tokens with equal probability."""
    model = untrained_llama(units=4, layers=1, heads=2, context=300)
    model.network.get_output_embeddings().weight.data.zero_()
    return model


def test_a_uniform_model_gives_each_byte_the_same(uniform):
    found = uniform.score(["go to", "", "Ω"], [" the", "a", "Ω"])
    assert found.tolist() == pytest.approx([-n * math.log(257) for n in (4, 1, 2)], rel=1e-5)


def test_bytes_are_tokens(model):
    text = "größe\n go"
    (tokens,) = model.tokens([text])
    assert tokens == list(text.encode())
    assert model.tokenizer.decode(tokens) == text
    assert model.tokens(["", "a"]) == [[256], [97]]


def test_more_pairs_than_a_pass_takes_come_back_in_order(model):
    contexts = [f"{i % 3}" for i in range(150)]
    completions = [f" {i}" for i in range(150)]
    whole = model.score(contexts, completions)
    few = [model.score([contexts[i]], [completions[i]]).item() for i in (0, 1, 70, 149)]
    assert whole[[0, 1, 70, 149]].tolist() == pytest.approx(few, abs=1e-4)
    assert whole.shape == (150,)
    assert whole.dtype == torch.float32


def test_probabilities_of_all_next_bytes_sum_to_one(model):
    letters = [chr(i) for i in range(128)]
    found = model.score(["to"] * 128, letters).exp().sum()
    assert 0.3 < found < 0.7  # 128 of 257 tokens of a model that knows nothing


def test_generation_follows_its_seed(model):
    model.tokenizer.chat_template = CHAT
    ask = [{"role": "user", "content": "go"}]
    options = {"max_tokens": 12, "temperature": 1.0}
    state = torch.get_rng_state()
    replies = [model.generate(ask, seed=seed, **options) for seed in (1, 1, 2)]
    assert replies[0] == replies[1] != replies[2]
    assert torch.equal(torch.get_rng_state(), state)
    assert model.generate(ask, max_tokens=5) == model.generate(ask, max_tokens=5)


def test_identity_is_that_of_the_weights(model):
    before = model.identity
    torch.manual_seed(0)
    assert untrained_llama(units=16, layers=2, heads=2, context=300).identity == before
    model.network.model.norm.weight.data[0] += 1
    assert model.identity != before
    model.network.model.norm.weight.data[0] -= 1


def test_a_saved_model_loads(model, tmp_path):
    model.network.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = TransformersLM.load(tmp_path)
    assert again.name == f"transformers:{tmp_path.name}"
    assert again.identity == model.identity
    assert again.score(["a"], ["b"]).item() == model.score(["a"], ["b"]).item()


def test_capabilities(model):
    require(model, "generate", "score", "train")
    with pytest.raises(MissingCapability, match=r"cannot embed; SentenceEncoder can$"):
        require(model, "score", "embed")
    with pytest.raises(MissingCapability, match="untrained-llama-2x16 cannot embed"):
        model.embed(["a"])
    with pytest.raises(MissingCapability, match="cannot follow a schema; EndpointLM can"):
        model.generate([{"role": "user", "content": "a"}], max_tokens=1, schema={})


def test_invalid_arguments(model):
    bare = untrained_llama(units=4, layers=1, heads=2)
    ask = [{"role": "user", "content": "go"}]
    with pytest.raises(ValueError, match="has no chat template, so it cannot generate"):
        bare.generate(ask, max_tokens=1)
    with pytest.raises(ValueError, match="reads 300 tokens, got 301; shorten the text"):
        model.score(["a" * 300], ["b"])
    with pytest.raises(ValueError, match=r"reads 300 tokens, got 4.*fewer examples \(shots\), sho"):
        Selector(model).rank("go home", ["go", "stay"])
    assert Selector(model, shots=()).rank("go home", ["go", "stay"]).items
    with pytest.raises(ValueError, match="got 2 contexts and 1 completions; it takes one context"):
        model.score(["a", "b"], ["c"])
    with pytest.raises(ValueError, match="completion 1 empty, which has no log-probability"):
        model.score(["a", "b"], ["c", ""])
    with pytest.raises(ValueError, match="takes 1 to 10000 texts in a call, got 0"):
        model.score([], [])
    with pytest.raises(ValueError, match="a prompt of 100001 characters, the limit is 100000"):
        model.score(["a" * 100_001], ["b"])
    with pytest.raises(ValueError, match="got no messages; it answers the last"):
        model.generate([], max_tokens=1)
    with pytest.raises(ValueError, match=r"a message has a role \(system, user, assistant\)"):
        model.generate([{"role": "root", "content": "a"}], max_tokens=1)
    with pytest.raises(ValueError, match="max_tokens from 1 to 8192, got 0"):
        model.generate(ask, max_tokens=0)
    with pytest.raises(ValueError, match="a temperature from 0 to 10, got -1"):
        model.generate(ask, max_tokens=1, temperature=-1.0)
    with pytest.raises(
        ValueError, match="units=6 into heads=2 of an even size; use a multiple of 4"
    ):
        untrained_llama(units=6, layers=1, heads=2)
    with pytest.raises(MissingModel, match=r"no model at 'no/such' .*hf download no/such"):
        TransformersLM.load("no/such")


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    wanted = r'wb.language.TransformersLM needs the extra \'llm\': pip install -e "\.\[llm\]"'
    with pytest.raises(ImportError, match=wanted):
        TransformersLM.load("x")
