"""Rankings by name, and the packaged models behind them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from worldblocks.language.baselines import Embedding, Random
from worldblocks.language.cached import CachedLM
from worldblocks.language.menu import check_phrase
from worldblocks.language.model import LanguageModel
from worldblocks.language.packaged import PackagedLM
from worldblocks.language.prompts import PROMPT_VERSION
from worldblocks.language.selector import Ranker, Ranking, Selector, check_texts, ranked
from worldblocks.language.sentences import SentenceEncoder

FILES = {"model": "smollm2.jsonl", "encoder": "minilm.jsonl"}
KINDS = ("llm", "embedding", "random", "uniform", "oracle")


class Uniform:
    """No order: all phrases alike, as in the menu."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases with a score of 0."""
        check_texts(instruction, phrases)
        return ranked(phrases, torch.zeros(len(phrases)))


class Exact:
    """The phrase that the instruction is, word for word; `a` and `the` count the same."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases, that one with a score of 1, the others with 0.

        Raises:
            ValueError: no phrase says it; with the nearest.
        """
        check_texts(instruction, phrases)
        said = {_plain(phrase): phrase for phrase in phrases}
        check_phrase(said.get(_plain(instruction), instruction), phrases)
        scores = [float(_plain(phrase) == _plain(instruction)) for phrase in phrases]
        return ranked(phrases, torch.tensor(scores))


def ranker(kind: str, *, cache: Path | str = "", offline: bool = False, seed: int = 0) -> Ranker:
    """What puts a menu in order.

    Args:
        kind: `llm` (a `Selector` with both packaged models), `embedding` (`Embedding`), `random`,
            `uniform` (all alike), `oracle` (the phrase that is asked for, word for word).
        cache: folder of the models' replies; "" asks them each time.
        offline: only the cache, no model.
        seed: of a random order.

    Raises:
        ValueError: an unknown kind, or offline without a cache.
        LanguageError: a model is not installed.
    """
    if kind == "llm":
        return Selector(
            packaged_model("model", cache, offline), packaged_model("encoder", cache, offline)
        )
    if kind == "embedding":
        return Embedding(packaged_model("encoder", cache, offline))
    if kind not in KINDS:
        raise ValueError(f"unknown ranking {kind!r}; there are {', '.join(KINDS)}")
    return {"random": Random(seed), "uniform": Uniform(), "oracle": Exact()}[kind]


def packaged_model(role: str, cache: Path | str = "", offline: bool = False) -> LanguageModel:
    """The packaged `model` or `encoder`; behind a folder of replies if given, or that alone.

    Raises:
        ValueError: offline without the file of its replies.
        LanguageError: the model is not installed.
    """
    if offline and not cache:
        raise ValueError("offline replays a cache, and got none; give --cache FOLDER")
    file = Path(cache) / FILES[role]
    if offline:
        if not file.is_file():
            raise ValueError(f"offline replays {file}, which is not there")
        return CachedLM(None, file, offline=True, template=PROMPT_VERSION)
    inner = PackagedLM("smollm2") if role == "model" else SentenceEncoder("minilm")
    return CachedLM(inner, file, template=PROMPT_VERSION) if cache else inner


def _plain(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.lower().split() if word not in ("a", "an", "the"))
