"""A small Llama that has read nothing: a policy without a language model's knowledge."""

from worldblocks.language.backends.local import TransformersLM, transformers


def untrained_llama(*, units: int, layers: int, heads: int, context: int = 8192) -> TransformersLM:
    """A randomly initialised Llama that reads bytes, one token each.

    The weights are drawn from torch's default generator.

    Args:
        units: width, a multiple of 2 `heads`.
        layers, heads: of the transformer.
        context: the longest text, in bytes.

    Raises:
        ImportError: transformers is missing.
        ValueError: `units` cannot be split into the heads.

    Source: Touvron et al. 2023 (arXiv:2302.13971).

    >>> model = untrained_llama(units=8, layers=1, heads=2)
    >>> model.tokens(["go"])
    [[103, 111]]
    """
    if units % (2 * heads):
        raise ValueError(
            f"untrained_llama splits units={units} into heads={heads} of an even size; a multiple "
            f"of {2 * heads} would work"
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
    """A fast tokenizer whose token i is the byte i, and whose last begins and ends a text."""
    import tokenizers

    letters = _byte_letters()
    vocab = {letter: byte for byte, letter in enumerate(letters)} | {"<end>": 256}
    model = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    model.decoder = tokenizers.decoders.ByteLevel()
    return hub.PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<end>", eos_token="<end>")


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's choice)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]
