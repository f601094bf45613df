"""Which phrase of a menu an instruction means, by the scores of a language model."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.language import prompts
from worldblocks.language.model import LanguageModel, require

MOST_PHRASES = 200
MOST_CHARACTERS = 300  # of a phrase or an instruction
PARTS = ("likelihood", "pmi", "channel", "embed")


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
    """Anything that puts phrases in order for an instruction."""

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases, best first."""
        ...


class Selector:
    """Ranks the phrases of a menu by how well each answers an instruction.

    Three scores of each phrase g for the instruction i, after six examples:

        pmi       log P(g | i) - log P(g | "do something")    what i adds to the odds of g
        channel   log P(i | g)                                how well g explains i
        embed     cosine of their sentence embeddings

    each brought to mean 0 and deviation 1 over the menu, and added. A raw likelihood log P(g | i),
    `method="likelihood"`, mostly says how usual the words of a phrase are.

    Args:
        model: scores text (`PackagedLM`, `TransformersLM`); None with `method="embed"`.
        encoder: embeds text (`SentenceEncoder`); needed for `embed`.
        method: parts joined by "+". None takes `pmi+channel`, and `embed` if there is an encoder.
        shots: pairs of instruction and goal that the model sees first.

    Raises:
        ValueError: an unknown part, or the part's model is not given.
        MissingCapability: a model cannot score, or an encoder cannot embed.

    Source: Holtzman et al. 2021 (domain-conditional PMI); Min et al. 2022 (noisy channel).
    """

    def __init__(
        self,
        model: LanguageModel | None,
        encoder: LanguageModel | None = None,
        method: str | None = None,
        shots: tuple[tuple[str, str], ...] = prompts.SHOTS,
    ) -> None:
        if method is None:
            method = "pmi+channel+embed" if encoder is not None else "pmi+channel"
        self.parts, self.shots = method.split("+"), shots
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"unknown part {part!r} of {method!r}; there are {list(PARTS)}")
            needed = encoder if part == "embed" else model
            if needed is None:
                name = "an encoder" if part == "embed" else "a model"
                raise ValueError(f"{part!r} of {method!r} needs {name}, got None")
            require(needed, "embed" if part == "embed" else "score")
        self.model, self.encoder, self.method = model, encoder, method

    def rank(self, instruction: str, phrases: Sequence[str]) -> Ranking:
        """The phrases, best first, and the sum of their standardised scores.

        Raises:
            ValueError: no phrase, more than 200, one twice, or a text that is empty or too long.
            LanguageError: of the model.
        """
        parts = self.score(instruction, phrases)
        return ranked(phrases, sum_of_parts([parts[name] for name in self.parts]))

    def score(
        self, instruction: str, phrases: Sequence[str]
    ) -> dict[str, Float[Tensor, " phrases"]]:
        """Every score of the method by its name, in the order of the phrases; not standardised."""
        check_texts(instruction, phrases)
        instruction, phrases = clean(instruction), [clean(phrase) for phrase in phrases]
        found: dict[str, Tensor] = {}
        if {"pmi", "likelihood"} & set(self.parts):
            found["likelihood"] = self._forward(instruction, phrases)
        if "pmi" in self.parts:
            found["pmi"] = found["likelihood"] - self._forward(prompts.NEUTRAL, phrases)
        if "channel" in self.parts:
            found["channel"] = self._backward(instruction, phrases)
        if "embed" in self.parts:
            found["embed"] = cosine(self.encoder, instruction, phrases)
        return found

    def _forward(self, instruction: str, phrases: list[str]) -> Tensor:
        context = prompts.forward(self.shots, instruction)
        return self._asked(context, [f" {phrase}\n" for phrase in phrases])

    def _backward(self, instruction: str, phrases: list[str]) -> Tensor:
        """log P(phrase, instruction) - log P(phrase): all after one context, which is run once."""
        context = prompts.backward(self.shots)
        both = [f" {phrase}\nInstruction: {instruction}\n" for phrase in phrases]
        alone = [f" {phrase}\nInstruction:" for phrase in phrases]
        return self._asked(context, both) - self._asked(context, alone)

    def _asked(self, context: str, completions: list[str]) -> Tensor:
        assert self.model is not None
        return self.model.score([context] * len(completions), completions).double()


def cosine(
    encoder: LanguageModel | None, instruction: str, phrases: list[str]
) -> Float[Tensor, " phrases"]:
    """The cosine of each phrase to the instruction."""
    assert encoder is not None
    vectors = encoder.embed([instruction, *phrases]).double()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return vectors[1:] @ vectors[0]


def sum_of_parts(parts: Sequence[Float[Tensor, " phrases"]]) -> Float[Tensor, " phrases"]:
    """The sum of scores that each were brought to mean 0 and deviation 1; a constant one counts 0.

    >>> sum_of_parts([torch.tensor([1.0, 3.0]), torch.tensor([5.0, 5.0])]).tolist()
    [-1.0, 1.0]
    """
    total = torch.zeros_like(parts[0])
    for part in parts:
        std = part.std(correction=0)
        total = total + (part - part.mean()) / torch.where(std > 1e-9, std, torch.inf)
    return total


def ranked(phrases: Sequence[str], scores: Float[Tensor, " phrases"]) -> Ranking:
    """Phrases by falling score; equal ones stay in the order of the menu."""
    values = scores.tolist()
    order = sorted(range(len(phrases)), key=lambda i: -values[i])
    return Ranking([phrases[i] for i in order], [values[i] for i in order])


def clean(text: str) -> str:
    """Text on one line: a line break would end it in the prompt."""
    return " ".join(text.split())


def check_texts(instruction: str, phrases: Sequence[str]) -> None:
    """Refuse what cannot be ranked."""
    if not 1 <= len(phrases) <= MOST_PHRASES or len(set(phrases)) < len(phrases):
        raise ValueError(
            f"a ranking needs 1 to {MOST_PHRASES} phrases, all different, got {len(phrases)}, "
            f"{len(phrases) - len(set(phrases))} of them again"
        )
    for text in (instruction, *phrases):
        if not isinstance(text, str) or not 0 < len(text) <= MOST_CHARACTERS or not clean(text):
            raise ValueError(
                f"an instruction and a phrase have 1 to {MOST_CHARACTERS} characters, got "
                f"{repr(text)[:60]}"
            )


def fit_temperature(rankings: Sequence[Ranking], right: Sequence[str]) -> float:
    """The temperature, 0.1 to 10, at which `prior` gives the right phrases the most probability.

    Args:
        rankings: of instructions whose answer is known.
        right: the answer to each, an item of its ranking.
    """
    if not rankings or len(rankings) != len(right):
        raise ValueError(f"got {len(rankings)} rankings and {len(right)} right answers")

    def loss(temperature: float) -> float:
        pairs = zip(rankings, right, strict=True)
        chances = [r.prior(temperature)[r.items.index(answer)] for r, answer in pairs]
        return -torch.tensor(chances).clamp(min=1e-30).log().sum().item()

    return min([10 ** (i / 20) for i in range(-20, 21)], key=loss)
