"""Rankings to compare with: no language model scores the phrases."""

import random
import re
import zlib
from collections.abc import Sequence

import torch

from worldblocks.language.model import LanguageModel, require
from worldblocks.language.ranking.ranking import Ranking, check_texts, clean, ranked
from worldblocks.language.ranking.selector import cosine
from worldblocks.language.rewards.menu import check_phrase

_WORD = re.compile(r"[a-z0-9]+")
_STOP = {"a", "an", "the", "to", "of", "and", "it", "is", "in", "on", "at", "you", "your", "as"}


class Random:
    """A random order, the same each time for one seed and one instruction."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases in an order drawn from the seed and the texts."""
        check_texts(instruction, phrases)
        text = "\n".join([str(self.seed), instruction, *phrases])
        draw = random.Random(zlib.crc32(text.encode()))
        return ranked(phrases, torch.tensor([draw.random() for _ in phrases]))


class WordOverlap:
    """By the Jaccard index of words: shared words over all words of both texts."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases by overlap; ties keep the order of the menu."""
        check_texts(instruction, phrases)
        asked = self._words(instruction)
        offered = [self._words(phrase) for phrase in phrases]
        shares = [len(asked & words) / max(len(asked | words), 1) for words in offered]
        return ranked(phrases, torch.tensor(shares))

    def _words(self, text: str) -> set[str]:
        return set(_WORD.findall(text.lower())) - _STOP


class Embedding:
    """By the cosine of sentence embeddings. Use it to rank one menu: no threshold is reliable.

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


class Uniform:
    """Equal scores: the order of the menu."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases, each with a score of 0."""
        check_texts(instruction, phrases)
        return ranked(phrases, torch.zeros(len(phrases)))


class Exact:
    """The phrase that equals the instruction word for word, ignoring case and articles."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases, the equal one with a score of 1, the others with 0.

        Raises:
            ValueError: no phrase equals it; suggests the nearest.
        """
        check_texts(instruction, phrases)
        plain = {self._words(phrase): phrase for phrase in phrases}
        check_phrase(plain.get(self._words(instruction), instruction), phrases)
        scores = [float(self._words(phrase) == self._words(instruction)) for phrase in phrases]
        return ranked(phrases, torch.tensor(scores))

    def _words(self, text: str) -> tuple[str, ...]:
        return tuple(word for word in text.lower().split() if word not in ("a", "an", "the"))
