"""Rankings that need no language model, to compare with."""

import random
import re
import zlib
from collections.abc import Sequence

import torch

from worldblocks.language.model import LanguageModel, require
from worldblocks.language.selector import Ranking, check_texts, clean, cosine, ranked

_WORD = re.compile(r"[a-z0-9]+")
_EMPTY = {"a", "an", "the", "to", "of", "and", "it", "is", "in", "on", "at", "you", "your", "as"}


class Random:
    """Any order, the same for the same instruction and seed."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases in an order drawn from the seed and the texts."""
        check_texts(instruction, phrases)
        text = "\n".join([str(self.seed), instruction, *phrases])
        draw = random.Random(zlib.crc32(text.encode()))
        return ranked(phrases, torch.tensor([draw.random() for _ in phrases]))


class WordOverlap:
    """By the share of words in common: those in both over those in either (Jaccard)."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases by the overlap; ties stay in the order of the menu."""
        check_texts(instruction, phrases)
        asked = self._words(instruction)
        offered = [self._words(phrase) for phrase in phrases]
        shares = [len(asked & words) / max(len(asked | words), 1) for words in offered]
        return ranked(phrases, torch.tensor(shares))

    def _words(self, text: str) -> set[str]:
        return set(_WORD.findall(text.lower())) - _EMPTY


class Embedding:
    """By the cosine of sentence embeddings. Rank within a menu: no threshold is safe.

    Args:
        encoder: embeds text (`SentenceEncoder`).
    """

    def __init__(self, encoder: LanguageModel) -> None:
        require(encoder, "embed")
        self.encoder = encoder

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases by their cosine to the instruction."""
        check_texts(instruction, phrases)
        texts = [clean(phrase) for phrase in phrases]
        return ranked(phrases, cosine(self.encoder, clean(instruction), texts))
