"""Any causal model of transformers: tiny ones of many architectures, and folders that are wrong."""

import json
import shutil

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra llm")
pytest.importorskip("peft", reason="needs the extra llm")

import transformers as hub

from worldblocks.language import LanguagePolicy, MissingModel, TransformersLM, untrained_llama
from worldblocks.language.backends.branches import reading_of
from worldblocks.language.backends.loading import WORKS

SIZES = {
    "vocab_size": 257,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 200,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
LLAMA = SIZES | {"intermediate_size": 24, "num_key_value_heads": 2}
GEMMA = LLAMA | {"head_dim": 8}
QV, GPT = {"q_proj", "v_proj"}, SIZES | {"n_inner": 24}
ALL = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
OPT = SIZES | {"ffn_dim": 24}

# name: options of its config, layers with adapters, whether its cache is branched
ARCHITECTURES = {
    "llama": (LLAMA, QV, True),
    "qwen2": (LLAMA, QV, True),
    "mistral": (LLAMA | {"head_dim": 8}, QV, True),
    "gemma": (GEMMA, QV, True),
    "gemma2": (GEMMA, QV, True),
    "phi": (LLAMA, QV, True),
    "opt": (OPT | {"word_embed_proj_dim": 16}, QV, True),
    "opt-350m": (OPT | {"word_embed_proj_dim": 12}, QV, True),
    "gpt_neo": (SIZES | {"attention_types": [[["global", "local"], 1]]}, QV, True),
    "codegen": (
        SIZES | {"hidden_size": 32, "num_attention_heads": 4, "rotary_dim": 2},
        {"qkv_proj"},
        True,
    ),
    "gptj": (SIZES | {"rotary_dim": 4}, QV, True),
    "gpt2": (GPT, {"c_attn"}, True),
    "gpt_bigcode": (GPT, {"c_attn"}, True),
    "gpt_neox": (SIZES | {"intermediate_size": 24}, {"query_key_value"}, True),
    "bloom": (SIZES, {"query_key_value"}, True),
    "falcon": (SIZES, {"query_key_value"}, True),
    "phi3": (LLAMA, ALL, True),
    "mpt": ({**SIZES, "d_model": 16, "n_heads": 2, "n_layers": 2}, {"Wqkv"}, False),
    "openai-gpt": (SIZES, {"c_attn", "c_proj", "c_fc"}, False),
    "rwkv": (SIZES, {"key", "value", "receptance", "output"}, False),
    "mamba": (SIZES, None, False),  # peft refuses
}


def network(name):
    torch.manual_seed(0)
    kind = "opt" if name == "opt-350m" else name
    config = hub.AutoConfig.for_model(kind, **ARCHITECTURES[name][0])
    made = hub.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # far from uniform predictions
            if parameter.dim() > 1:
                parameter.mul_(5)
    return made


def saved(made, folder):
    made.save_pretrained(folder)
    untrained_llama(units=4, layers=1, heads=1).tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_are_those_of_whole_texts_and_a_policy_learns(name, tmp_path):
    _, layers, branches = ARCHITECTURES[name]
    model = TransformersLM.load(saved(network(name), tmp_path))
    assert reading_of(model.network).branches == branches
    prompts, phrases = ["go to", "go to the red ball", "x"], ["left", "go forward", "a"]
    with torch.no_grad():
        wanted = [[whole(model, p, f" {phrase}") for phrase in phrases] for p in prompts]
        last = [hidden(model, p) for p in prompts]
    found = model.score([p for p in prompts for _ in phrases], [f" {p}" for p in phrases] * 3)
    torch.testing.assert_close(found.view(3, 3), torch.tensor(wanted), rtol=1e-4, atol=1e-3)
    if layers is None:
        with pytest.raises(ValueError, match=r"cannot add adapters of rank 2 .*rank=0 \(--rank 0"):
            LanguagePolicy(model, phrases, rank=2, units=5)
    policy = LanguagePolicy(model, phrases, rank=0 if layers is None else 2, units=5)
    with torch.no_grad():
        judged = policy(prompts)
        value = policy.value(torch.stack(last))[..., 0]
    torch.testing.assert_close(judged.logits, torch.tensor(wanted), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(judged.value, value, rtol=1e-4, atol=1e-4)
    if layers is not None:
        assert {key.split("/lora_")[0].split("/")[-1] for key in policy.adapter} == layers
    trained = list(policy.adapter.parameters())
    optimizer = torch.optim.SGD(trained, lr=0.1)
    policy(prompts).logits[:, 0].sum().backward()
    optimizer.step()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in trained)
    assert not torch.allclose(policy(prompts).logits, judged.logits, atol=1e-6)


def whole(model, prompt, phrase):
    context, completion = model.tokens([prompt, phrase])
    logits = model.network(input_ids=torch.tensor([context + completion])).logits[0].float()
    start = len(context) - 1
    rows = logits[start : start + len(completion)].log_softmax(-1)
    return rows.gather(-1, torch.tensor(completion)[:, None]).sum().item()


def hidden(model, prompt):
    tokens = torch.tensor(model.tokens([prompt]))
    out = model.network(input_ids=tokens, output_hidden_states=True)
    return out.hidden_states[-1][0, -1].float()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return saved(network("llama"), tmp_path_factory.mktemp("models") / "good")


def edited(**changes):
    def edit(folder):
        path = folder / "config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))

    return edit


def removed(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def other(kind, **options):
    """The folder of a model of another kind."""

    def replace(folder):
        shutil.rmtree(folder)
        made = getattr(hub, kind)(getattr(hub, kind).config_class(**options))
        saved(made, folder)

    return replace


def only(name):
    def keep(folder):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_text("{}")

    return keep


SMALL = {"vocab_size": 257, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
BERT = {k: SIZES[k] for k in ("vocab_size", "hidden_size", "num_attention_heads", "pad_token_id")}
TOKENS = ("tokenizer.json", "tokenizer_config.json")
BART = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 257}
BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 9}
WRONG = {
    "T5": (other("T5ForConditionalGeneration", **SMALL), "T5.* is an encoder and a decoder"),
    "Bart": (other("BartForConditionalGeneration", **BART), "Bart.* is an encoder and a decoder"),
    "BERT": (other("BertForMaskedLM", **BERT), "BertForMaskedLM that cannot be read: .*not causal"),
    "RoBERTa": (other("RobertaForMaskedLM", **BERT), "Roberta.*not causal: a token sees those"),
    "ViT": (edited(model_type="vit", architectures=["ViTModel"]), "ViTModel, which is not causal"),
    "classifier": (
        other("LlamaForSequenceClassification", **LLAMA),
        r"LlamaForSequenceClassification, whose weights lack lm_head.weight",
    ),
    "base model": (other("LlamaModel", **LLAMA), "LlamaModel, whose weights lack lm_head.weight"),
    "empty": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "is an empty folder"),
    "no config": (removed("config.json"), r"has no config.json, only \['generation_config.json'"),
    "adapters": (only("adapter_config.json"), "has adapters alone; merge them into their model"),
    "llama.cpp": (only("model.gguf"), "has a model for llama.cpp; serve it and use EndpointLM"),
    "config cut": (written("config.json", "{"), "a config.json that transformers cannot use: .*"),
    "no type": (edited(model_type=None), "cannot use: .*Should have a `model_type` key"),
    "unknown type": (edited(model_type="nosuch"), "cannot use: .*model type `nosuch`"),
    "code of its own": (
        edited(model_type="nosuch", auto_map={"AutoConfig": "x.C", "AutoModelForCausalLM": "x.M"}),
        "cannot use: .*contains custom code",
    ),
    "no tokenizer": (removed(*TOKENS), "has a LlamaForCausalLM without a tokenizer that can"),
    "no tokenizer of GPT-2": (
        lambda folder: (saved(network("gpt2"), folder), removed(*TOKENS)(folder)),
        "has a GPT2LMHeadModel without the vocabulary of its tokenizer",
    ),
    "tokenizer cut": (written("tokenizer.json", "{"), "without a tokenizer that can be read"),
    "another tokenizer": (
        other("LlamaForCausalLM", **LLAMA | {"vocab_size": 90, "pad_token_id": None}),
        "has the tokenizer of another model: token 121 of 90",
    ),
    "no weights": (removed("model.safetensors"), "LlamaForCausalLM without weights that can be"),
    "weights cut": (written("model.safetensors", "cut"), "without weights that can be read"),
    "other sizes": (edited(hidden_size=32), "LlamaForCausalLM without weights that can be read"),
    "quantized": (
        edited(quantization_config={"quant_method": "nosuch", "load_in_4bit": True}),
        "LlamaForCausalLM without weights that can be read: .*requires bitsandbytes",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), WRONG.values(), ids=WRONG)
def test_folders_that_are_wrong_say_what_was_found(damage, reason, good, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    damage(folder)
    with pytest.raises(MissingModel, match=reason) as raised:
        TransformersLM.load(folder)
    text = str(raised.value)
    assert text.startswith(f"'{folder}' ")
    assert text.endswith(WORKS)
    assert "download" not in text


def test_paths_that_are_no_folder(good):
    with pytest.raises(MissingModel, match=r"config.json' is a file; give the folder it is in, "):
        TransformersLM.load(good / "config.json")
    with pytest.raises(MissingModel, match=r"no model at '.*nothing' on this machine .* hf downl"):
        TransformersLM.load(good / "nothing")
    with pytest.raises(MissingModel, match="' ' names no model"):
        TransformersLM.load(" ")


def test_tokens_of_another_tokenizer():
    model = untrained_llama(units=4, layers=1, heads=1)
    model.network.resize_token_embeddings(101)
    assert model.tokens(["a"]) == [[97]]
    with pytest.raises(ValueError, match="got token 122 and knows 101; give it the tokenizer it w"):
        model.tokens(["az"])


def test_a_network_that_is_not_causal_is_no_policy():
    config = hub.BertConfig(**BERT, num_hidden_layers=1, intermediate_size=8)
    model = untrained_llama(units=4, layers=1, heads=1)
    model.network = hub.BertLMHeadModel(config).train()
    with pytest.raises(ValueError, match="BertLMHeadModel is not causal: a token sees those after"):
        LanguagePolicy(model, ["go"], rank=0)
