"""A causal language model from a folder, or a sentence that says what is wrong with the folder."""

from pathlib import Path
from typing import Any, NoReturn

import torch

from worldblocks.language.backends.branches import reading_of
from worldblocks.language.model import MissingModel

WORKS = (
    "any causal language model works, such as GPT-2, Llama or Qwen2: a folder with config.json, "
    "its weights and its tokenizer"
)
TEXTS = ("go to the red ball", "pick up a key")  # a tokenizer tells them apart


def load_causal(hub: Any, path: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The tokenizer and the network of a folder, or of an id that was downloaded before.

    Args:
        hub: the package transformers.
        path: a folder or an id.
        dtype: of the weights.

    Raises:
        MissingModel: names what was found, and what would work.
    """
    folder = Path(path)
    options = {"local_files_only": True, "trust_remote_code": False}
    if not str(path).strip():
        _refuse(path, "names no model")
    if folder.is_file():
        _refuse(path, f"is a file; give the folder it is in, {str(folder.parent)!r}")
    if folder.is_dir() and not (folder / "config.json").exists():
        held = sorted(file.name for file in folder.iterdir())
        problem = f"has no config.json, only {held[:6]}" if held else "is an empty folder"
        if "adapter_config.json" in held:
            problem = "has adapters alone; merge them into their model (merge_and_unload) and save"
        elif any(name.endswith(".gguf") for name in held):
            problem = "has a model for llama.cpp; serve it and use EndpointLM"
        _refuse(path, problem)
    try:
        config = hub.AutoConfig.from_pretrained(path, **options)
    except Exception as cause:  # of any kind: transformers and the packages below raise their own
        if not folder.exists():
            raise MissingModel(
                f"no model at {str(path)!r} on this machine that transformers can load: "
                f"{first_line(cause)}; give a folder, or download an id with: hf download {path}"
            ) from cause
        _refuse(path, "has a config.json that transformers cannot use", cause)
    known = hub.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kind = ", ".join(config.architectures or [config.model_type])
    if config.is_encoder_decoder or config.model_type not in known:
        what = "an encoder and a decoder" if config.is_encoder_decoder else "not causal"
        _refuse(path, f"has a {kind}, which is {what}")
    try:
        tokenizer = hub.AutoTokenizer.from_pretrained(path, **options)
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    except Exception as cause:
        _refuse(path, f"has a {kind} without a tokenizer that can be read", cause)
    if not all(ids) or ids[0] == ids[1]:
        _refuse(path, f"has a {kind} without the vocabulary of its tokenizer")
    try:
        network, loaded = hub.AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, output_loading_info=True, **options
        )
    except Exception as cause:
        _refuse(path, f"has a {kind} without weights that can be read", cause)
    if lacking := sorted(loaded["missing_keys"]):
        _refuse(path, f"has a {kind}, whose weights lack {', '.join(lacking[:3])}")
    size = network.get_input_embeddings().num_embeddings
    if (most := max(map(max, ids))) >= size:
        _refuse(path, f"has the tokenizer of another model: token {most} of {size} in the {kind}")
    try:
        reading_of(network)
    except Exception as cause:
        _refuse(path, f"has a {kind} that cannot be read", cause)
    return tokenizer, network


def _refuse(path: str | Path, problem: str, cause: BaseException | None = None) -> NoReturn:
    reason = f": {first_line(cause)}" if cause else ""
    raise MissingModel(f"{str(path)!r} {problem}{reason}; {WORKS}") from cause


def first_line(cause: BaseException) -> str:
    """The first line of an error."""
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:300]
