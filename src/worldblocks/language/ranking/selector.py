"""Ranking by the likelihoods of a language model and by sentence embeddings."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from worldblocks.language.model import LanguageModel, require
from worldblocks.language.ranking.ranking import Ranking, check_texts, clean, ranked

PARTS = ("likelihood", "pmi", "channel", "embed")
PROMPT_VERSION = "1"
# The examples before each question; none is in the case set of the benchmark.
SHOTS = (
    ("hand me the orange cup", "pick up the orange cup"),
    ("make your way to the white table", "go to the white table"),
    ("have a look inside the cupboard", "open the cupboard"),
    ("swing your arms around", "move both arms"),
    ("do not make any noise", "stay quiet"),
    ("get up those stairs in a hurry", "climb fast"),
)
NEUTRAL = "do something"  # the instruction of the PMI's denominator


class Selector:
    """Ranks the phrases of a menu by how well each answers an instruction.

    Three scores of each phrase g for the instruction i, after six examples:

        pmi       log P(g | i) - log P(g | "do something")    how much i raises the odds of g
        channel   log P(i | g)                                how well g explains i
        embed     cosine of their sentence embeddings

    Each score is standardised over the menu (mean 0, standard deviation 1), then they are added.
    The raw likelihood log P(g | i), `method="likelihood"`, mostly measures how common the words of
    a phrase are.

    Args:
        model: scores text (`PackagedLM`, `TransformersLM`); None with `method="embed"`.
        encoder: embeds text (`SentenceEncoder`); needed for `embed`.
        method: parts joined by "+". None takes `pmi+channel`, and `embed` if there is an encoder.
        shots: example pairs of instruction and goal, at the start of the prompt.

    Raises:
        ValueError: an unknown part, or a part without its model.
        MissingCapability: the model cannot score, or the encoder cannot embed.

    Source: Holtzman et al. 2021 (domain-conditional PMI); Min et al. 2022 (noisy channel).
    """

    def __init__(
        self,
        model: LanguageModel | None,
        encoder: LanguageModel | None = None,
        method: str | None = None,
        shots: tuple[tuple[str, str], ...] = SHOTS,
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
        """The phrases, best first, with the sum of their standardised scores.

        Raises:
            ValueError: no phrases, more than 200, duplicates, or an empty or overlong text.
            LanguageError: the model failed.
        """
        parts = self.score(instruction, phrases)
        return ranked(phrases, sum_of_parts([parts[name] for name in self.parts]))

    def score(
        self, instruction: str, phrases: Sequence[str]
    ) -> dict[str, Float[Tensor, " phrases"]]:
        """Each score of the method by name, in the order of `phrases`, not standardised."""
        check_texts(instruction, phrases)
        instruction, phrases = clean(instruction), [clean(phrase) for phrase in phrases]
        found: dict[str, Tensor] = {}
        if {"pmi", "likelihood"} & set(self.parts):
            found["likelihood"] = self._likelihood(instruction, phrases)
        if "pmi" in self.parts:
            found["pmi"] = found["likelihood"] - self._likelihood(NEUTRAL, phrases)
        if "channel" in self.parts:
            found["channel"] = self._channel(instruction, phrases)
        if "embed" in self.parts:
            found["embed"] = cosine(self.encoder, instruction, phrases)
        return found

    def _likelihood(self, instruction: str, phrases: list[str]) -> Tensor:
        """log P(phrase | instruction)."""
        examples = [f"Instruction: {asked}\nGoal: {goal}\n\n" for asked, goal in self.shots]
        context = "".join(examples) + f"Instruction: {instruction}\nGoal:"
        return self._log_prob(context, [f" {phrase}\n" for phrase in phrases])

    def _channel(self, instruction: str, phrases: list[str]) -> Tensor:
        """log P(phrase, instruction) - log P(phrase); all share one context, which is run once."""
        examples = [f"Goal: {goal}\nInstruction: {asked}\n\n" for asked, goal in self.shots]
        context = "".join(examples) + "Goal:"
        both = [f" {phrase}\nInstruction: {instruction}\n" for phrase in phrases]
        alone = [f" {phrase}\nInstruction:" for phrase in phrases]
        return self._log_prob(context, both) - self._log_prob(context, alone)

    def _log_prob(self, context: str, completions: list[str]) -> Tensor:
        assert self.model is not None
        try:
            return self.model.score([context] * len(completions), completions).double()
        except ValueError as cause:
            raise ValueError(
                f"{cause}: a phrase of the menu is read after {len(self.shots)} examples and the "
                f"instruction; use fewer examples (shots), shorter texts or a model that reads more"
            ) from cause


def cosine(
    encoder: LanguageModel | None, instruction: str, phrases: list[str]
) -> Float[Tensor, " phrases"]:
    """The cosine of each phrase to the instruction."""
    assert encoder is not None
    vectors = encoder.embed([instruction, *phrases]).double()
    vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return vectors[1:] @ vectors[0]


def sum_of_parts(parts: Sequence[Float[Tensor, " phrases"]]) -> Float[Tensor, " phrases"]:
    """The sum of standardised scores (mean 0, standard deviation 1); a constant score adds 0.

    >>> sum_of_parts([torch.tensor([1.0, 3.0]), torch.tensor([5.0, 5.0])]).tolist()
    [-1.0, 1.0]
    """
    total = torch.zeros_like(parts[0])
    for part in parts:
        std = part.std(correction=0)
        total = total + (part - part.mean()) / torch.where(std > 1e-9, std, torch.inf)
    return total
