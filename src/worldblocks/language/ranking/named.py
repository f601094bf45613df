"""Rankers by name, and the packaged models they use."""

from pathlib import Path

from worldblocks.language.backends.cached import CachedLM
from worldblocks.language.backends.encoder import SentenceEncoder
from worldblocks.language.backends.packaged import PackagedLM
from worldblocks.language.model import LanguageModel
from worldblocks.language.ranking.baselines import Embedding, Exact, Random, Uniform
from worldblocks.language.ranking.ranking import Ranker
from worldblocks.language.ranking.selector import PROMPT_VERSION, Selector

FILES = {"model": "smollm2.jsonl", "encoder": "minilm.jsonl"}
KINDS = ("llm", "embedding", "random", "uniform", "oracle")


def ranker(kind: str, *, cache: Path | str = "", offline: bool = False, seed: int = 0) -> Ranker:
    """A ranker by name.

    Args:
        kind: `llm` (a `Selector` with both packaged models), `embedding` (`Embedding`), `random`,
            `uniform` (equal scores), `oracle` (the phrase that equals the instruction).
        cache: folder with cached replies of the models; "" for no cache.
        offline: use the cache alone, no model.
        seed: for `random`.

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
    """The packaged `model` or `encoder`, cached in the folder `cache` if one is given.

    Raises:
        ValueError: offline without a file of replies.
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
