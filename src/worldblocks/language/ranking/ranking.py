"""Rankings of phrases, and the protocol of a ranker."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

MOST_PHRASES = 200
MOST_CHARACTERS = 300  # of a phrase or an instruction


class Ranking(NamedTuple):
    """Phrases, best first, with a score for each."""

    items: list[str]
    scores: list[float]

    def prior(self, temperature: float = 1.0) -> list[float]:
        """Probabilities `softmax(scores / temperature)`, in the order of `items`."""
        if not temperature > 0:
            raise ValueError(f"a temperature is above 0, got {temperature}")
        return torch.softmax(torch.tensor(self.scores).double() / temperature, 0).tolist()


class Ranker(Protocol):
    """Ranks phrases for an instruction."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases, best first."""
        ...


def ranked(phrases: Sequence[str], scores: Float[Tensor, " phrases"]) -> Ranking:
    """Phrases sorted by falling score; ties keep the order of the menu."""
    values = scores.tolist()
    order = sorted(range(len(phrases)), key=lambda i: -values[i])
    return Ranking([phrases[i] for i in order], [values[i] for i in order])


def clean(text: str) -> str:
    """Text on one line: a line break would end it in the prompt."""
    return " ".join(text.split())


def check_texts(instruction: str, phrases: Sequence[str]) -> None:
    """Refuse an instruction or phrases that cannot be ranked."""
    if not 1 <= len(phrases) <= MOST_PHRASES or len(set(phrases)) < len(phrases):
        raise ValueError(
            f"a ranking needs 1 to {MOST_PHRASES} phrases, all different, got {len(phrases)}, "
            f"{len(phrases) - len(set(phrases))} of them again"
        )
    for place, text in enumerate((instruction, *phrases)):
        if not isinstance(text, str) or not 0 < len(text) <= MOST_CHARACTERS or not clean(text):
            what = f"as phrase {place} of {len(phrases)}" if place else "as the instruction"
            raise ValueError(
                f"an instruction and a phrase have 1 to {MOST_CHARACTERS} characters, got "
                f"{repr(text)[:60]} {what}"
            )


def fit_temperature(rankings: Sequence[Ranking], right: Sequence[str]) -> float:
    """The temperature, from 0.1 to 10, that maximises the likelihood of the right phrases.

    Args:
        rankings: for instructions with known answers.
        right: the answer to each, an item of its ranking.
    """
    if not rankings or len(rankings) != len(right):
        raise ValueError(f"got {len(rankings)} rankings and {len(right)} right answers")

    def loss(temperature: float) -> float:
        pairs = zip(rankings, right, strict=True)
        chances = [r.prior(temperature)[r.items.index(answer)] for r, answer in pairs]
        return -torch.tensor(chances).clamp(min=1e-30).log().sum().item()

    return min([10 ** (i / 20) for i in range(-20, 21)], key=loss)
