"""A small, randomly initialised Llama, as a baseline without pre-training."""

import itertools

from worldblocks.language.backends.local import TransformersLM, transformers


def untrained_llama(*, units: int, layers: int, heads: int, context: int = 8192) -> TransformersLM:
    """A randomly initialised Llama over bytes, one token each.

    The weights come from torch's default generator.

    Args:
        units: width, a multiple of 2 `heads`.
        layers, heads: number of layers and of attention heads.
        context: maximum length of a text, in bytes.

    Raises:
        ImportError: transformers is missing.
        ValueError: `units` is not a multiple of 2 `heads`.

    Source: Touvron et al. 2023 (arXiv:2302.13971).

    >>> model = untrained_llama(units=8, layers=1, heads=2)
    >>> model.tokens(["go"])
    [[103, 111]]
    """
    if units % (2 * heads):
        raise ValueError(
            f"untrained_llama splits units={units} into heads={heads} of an even size; use a "
            f"multiple of {2 * heads}"
        )
    hub = transformers("untrained_llama")
    config = hub.LlamaConfig(
        vocab_size=257,
        hidden_size=units,
        intermediate_size=4 * units,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        bos_token_id=256,
        eos_token_id=256,
        tie_word_embeddings=True,
    )
    name = f"untrained-llama-{layers}x{units}"
    return TransformersLM(hub.LlamaForCausalLM(config).eval(), _byte_tokenizer(hub), name=name)


def _byte_tokenizer(hub):
    """A fast tokenizer: token i is byte i, and token 256 begins and ends a text."""
    import tokenizers

    # GPT-2's letters of bytes: printable ones stand for themselves, the others for chr(256) on.
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = itertools.count(256)
    vocab = {chr(byte if byte in printable else next(others)): byte for byte in range(256)}
    vocab["<end>"] = 256
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    model.decoder = tokenizers.decoders.ByteLevel()
    return hub.PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<end>", eos_token="<end>")
