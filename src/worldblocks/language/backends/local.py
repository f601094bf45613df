"""Causal language models of Hugging Face's transformers, from this machine."""

import contextlib
import functools
import hashlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from worldblocks._install import install
from worldblocks.language.backends.branches import Reading, reading_of, score_branches
from worldblocks.language.backends.limits import check_conversation, check_pairs, check_reply
from worldblocks.language.backends.loading import load_causal
from worldblocks.language.model import LanguageModel, Messages, MissingCapability
from worldblocks.typing import typed

ROWS = 64  # completions per pass, which limits the memory of its key-value cache


class TransformersLM(LanguageModel):
    """A causal language model and its tokenizer: `generate`, `score`, `train`.

    Contexts and completions are tokenized separately, so that the tokens of a completion do not
    depend on its context. The separating space belongs to the start of the completion.

    Args:
        network: a causal model of transformers, such as `LlamaForCausalLM`.
        tokenizer: its fast tokenizer.
        name: part of the keys of `CachedLM`.

    >>> import worldblocks as wb
    >>> try:
    ...     wb.language.TransformersLM.load("no/such-model")
    ... except wb.language.MissingModel as error:
    ...     print(error)  # doctest: +ELLIPSIS
    no model at 'no/such-model' on this machine...
    """

    capabilities = frozenset({"generate", "score", "train"})
    follows_schemas = False

    def __init__(self, network: nn.Module, tokenizer: Any, *, name: str = "transformers") -> None:
        self.network, self.tokenizer, self.name = network, tokenizer, name

    @classmethod
    def load(
        cls, path: str | Path, *, dtype: torch.dtype = torch.float32, name: str | None = None
    ) -> "TransformersLM":
        """Load a model from a folder, or by its id if it has been downloaded before.

        Nothing is downloaded, and no code in the folder is run. In bfloat16 scores are up to 0.2
        nats off and differ between processors.

        Raises:
            ImportError: transformers is missing.
            MissingModel: the model is not on this machine, is not a causal language model, or lacks
                a configuration, a tokenizer or weights that can be read.
        """
        hub = transformers("TransformersLM")
        with quiet(hub):
            tokenizer, network = load_causal(hub, path, dtype)
        return cls(network.eval(), tokenizer, name=name or f"transformers:{Path(path).name}")

    @functools.cached_property
    def _reading(self) -> Reading:
        return reading_of(self.network)

    @property
    def identity(self) -> str:
        """SHA-256 of the current weights and the vocabulary."""
        digest = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
        digest.update(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        return digest.hexdigest()

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text; "" gives the token that begins or ends a text.

        Raises:
            ValueError: a text has more tokens than the model's context.
        """
        found = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        size: int = getattr(self.network, "get_input_embeddings")().num_embeddings  # noqa: B009
        if (most := max(map(max, filter(None, found)), default=0)) >= size:
            raise ValueError(
                f"{self.name} got token {most} and knows {size}; give it the tokenizer it was "
                f"trained with"
            )
        begin = self.tokenizer.bos_token_id
        begin = self.tokenizer.eos_token_id if begin is None else begin
        self._check(max(map(len, found), default=0))
        return [row or [begin or 0] for row in found]

    @property
    def context(self) -> int | None:
        """The most tokens that it reads; None if the model sets no limit."""
        config: Any = self.network.config
        names = ("max_position_embeddings", "max_seq_len")  # the second in MPT
        return next((n for name in names if (n := getattr(config, name, None))), None)

    def _check(self, length: int) -> None:
        if self.context and length > self.context:
            raise ValueError(
                f"{self.name} reads {self.context} tokens, got {length}; shorten the text"
            )

    @torch.no_grad()
    def generate(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> str:
        """See `LanguageModel.generate`; schemas are not supported.

        Raises:
            MissingCapability: a schema was given.
            ValueError: the tokenizer has no chat template, or an argument is out of range.
        """
        check_conversation(self.name, messages, max_tokens, temperature)
        if schema is not None:
            raise MissingCapability(self.name, "follow a schema")
        if not self.tokenizer.chat_template:
            raise ValueError(
                f"{self.name} has no chat template, so it cannot generate an answer; it can score"
            )
        prompt = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=True, tokenize=False
        )
        (row,) = self.tokens([prompt])
        self._check(len(row) + max_tokens)
        tokens = torch.tensor([row], device=next(self.network.parameters()).device)
        draw = {"do_sample": True, "temperature": temperature} if temperature else {}
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            out = self.network.generate(  # type: ignore[operator]
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=max_tokens,
                pad_token_id=self.tokenizer.eos_token_id,
                **({"do_sample": False} | draw),
            )
        reply = self.tokenizer.decode(out[0, len(row) :], skip_special_tokens=True)
        return check_reply(self.name, reply)

    @torch.no_grad()
    @typed
    def score(self, contexts: list[str], completions: list[str]) -> Float[Tensor, " pairs"]:
        """See `LanguageModel.score`; the result is on the CPU, in float32."""
        check_pairs(self.name, contexts, completions)
        unique = {text: i for i, text in enumerate(dict.fromkeys(contexts))}
        owner = [unique[text] for text in contexts]
        order = sorted(range(len(owner)), key=owner.__getitem__)
        read, follow = self.tokens(list(unique)), self.tokens(completions)
        self._check(max(len(read[i]) + len(row) for i, row in zip(owner, follow, strict=True)))
        scores = torch.empty(len(owner))
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            first, last = owner[chosen[0]], owner[chosen[-1]]
            scores[chosen] = score_branches(
                self.network,
                read[first : last + 1],
                [follow[i] for i in chosen],
                [owner[i] - first for i in chosen],
                branches=self._reading.branches,
            ).log_prob.cpu()
        return scores


def transformers(needed_by: str) -> Any:
    """The transformers package, offline unless the user has set `HF_HUB_OFFLINE`.

    Raises:
        ImportError: it is not installed; names the extra.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return importlib.import_module("transformers")
    except ImportError as cause:
        raise ImportError(
            f"wb.language.{needed_by} needs the extra 'llm': {install('llm')}"
        ) from cause


@contextlib.contextmanager
def quiet(hub: Any) -> Iterator[None]:
    """Hide progress bars while weights load."""
    bars = hub.utils.logging.is_progress_bar_enabled()
    hub.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            hub.utils.logging.enable_progress_bar()
