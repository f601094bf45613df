"""A language model with scripted answers, for tests of its callers."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.language.model import LanguageModel, Messages, require


class ScriptedLM(LanguageModel):
    """A language model with scripted answers; any other question is an error.

    Its capabilities are those with a script. `asked` lists all questions in order.

    Args:
        replies: reply by the content of the last message.
        scores: log-probability by (context, completion).
        vectors: embedding by text.

    >>> model = ScriptedLM(scores={("go to the", " ball"): -1.5})
    >>> model.score(["go to the"], [" ball"]).tolist()
    [-1.5]
    """

    def __init__(
        self,
        replies: Mapping[str, str] | None = None,
        *,
        scores: Mapping[tuple[str, str], float] | None = None,
        vectors: Mapping[str, list[float]] | None = None,
    ) -> None:
        self._scripts = {"generate": replies, "score": scores, "embed": vectors}
        known = [able for able, script in self._scripts.items() if script is not None]
        self.name, self.capabilities = "scripted", frozenset(known)
        self.asked: list[Any] = []

    @property
    def identity(self) -> str:
        """The script, as text."""
        return repr(self._scripts)

    def generate(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> str:
        """The scripted reply to the last message."""
        return self._answer("generate", messages[-1]["content"])

    def score(self, contexts: list[str], completions: list[str]) -> Float[Tensor, " pairs"]:
        """The scripted log-probabilities of the pairs."""
        pairs = zip(contexts, completions, strict=True)
        return torch.tensor([self._answer("score", pair) for pair in pairs])

    def embed(self, texts: list[str]) -> Float[Tensor, "texts embed"]:
        """The scripted embeddings of the texts."""
        return torch.tensor([self._answer("embed", text) for text in texts])

    def _answer(self, capability: str, question: Any) -> Any:
        require(self, capability)
        self.asked.append(question)
        script = self._scripts[capability] or {}
        if question not in script:
            raise LookupError(
                f"ScriptedLM was asked to {capability} {question!r:.300}; its script has "
                f"{len(script)} other questions, such as {next(iter(script), None)!r:.100}"
            )
        return script[question]
