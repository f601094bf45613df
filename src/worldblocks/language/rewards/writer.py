"""Reward specs written by a large language model, with one round of feedback."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from worldblocks.envs import Feature
from worldblocks.language.backends.replies import check_json
from worldblocks.language.model import (
    LanguageModel,
    Malformed,
    Messages,
    MissingCapability,
    require,
)
from worldblocks.language.rewards.expression import ExpressionError
from worldblocks.language.rewards.menu import sample_features
from worldblocks.language.rewards.operators import FUNCTIONS
from worldblocks.language.rewards.spec import RewardSpec, reward_schema

MOST_CHARACTERS = 1000  # of an instruction
_SYSTEM = """You write reward functions for a reinforcement-learning agent as JSON:
{"terms": [{"expr": "...", "weight": 1.0}]}, one to six terms, whose weighted sum is the reward.
An expr is one line over the features listed: numbers, + - * / **, comparisons, and, or, not,
a if c else b, and the functions %s.
near(x, t, w) is 1 at t and falls like a Gaussian of width w; above(x, t, w) is 1 from t up and
falls to 0 at t - w; rise(x) is 1 in the row in which x becomes true. Prefer one or two terms.
Answer with the JSON alone.""" % ", ".join(function.usage for function in FUNCTIONS.values())  # noqa: UP031


class Attempt(NamedTuple):
    """A reply of the model, with its spec or the error."""

    reply: str
    spec: RewardSpec | None
    error: str


class Writer:
    """Asks a language model to write specs for an instruction.

    The one JSON object in each of `n` replies is compiled on a sample over the whole range of the
    features. A refused reply is sent back once with the reason. No reply is ever executed. Small
    models write wrong specs (29 of 30 in a test); use `Selector` with them.

    Args:
        model: `EndpointLM`, or another model that generates.
        ranges: the features it may use.
        n: number of specs to ask for.
        temperature: of the replies; at 0 they are all equal.
        about: a sentence or two about the environment.
        schema: whether the model is held to the JSON schema of a spec. Without, the prompt states
            the schema: for servers and models that follow none.
        max_tokens: maximum length of a reply, thoughts included.

    Raises:
        MissingCapability: the model cannot generate, or cannot follow a schema.
    """

    def __init__(
        self,
        model: LanguageModel,
        ranges: Mapping[str, Feature],
        *,
        n: int = 4,
        temperature: float = 0.7,
        about: str = "",
        schema: bool = True,
        max_tokens: int = 600,
    ) -> None:
        require(model, "generate")
        if schema and not model.follows_schemas:
            hint = ", and Writer(..., schema=False) states the schema in the prompt"
            raise MissingCapability(model.name, "follow a schema", hint)
        if n < 1:
            raise ValueError(f"a Writer asks for 1 spec or more, got n={n}")
        self.model, self.ranges, self.n = model, dict(ranges), n
        self.temperature, self.about, self.max_tokens = temperature, about, max_tokens
        self._schema = schema
        self.attempts: list[Attempt] = []

    def write(self, instruction: str) -> list[RewardSpec]:
        """The valid specs, without duplicates; `attempts` keeps all replies and their errors.

        Raises:
            Malformed: no reply has a valid spec, even after feedback.
            LanguageError: the model failed.
            ValueError: the instruction is empty or too long.
        """
        if not instruction.strip() or len(instruction) > MOST_CHARACTERS:
            raise ValueError(
                f"an instruction has 1 to {MOST_CHARACTERS} characters, got {len(instruction)}"
                f"{', all of them blank' if instruction.isspace() else ''}"
            )
        form = reward_schema(self.ranges)
        stated = "" if self._schema else f"\nThe JSON schema of the answer: {json.dumps(form)}"
        asked = [
            {"role": "system", "content": _SYSTEM + stated},
            {"role": "user", "content": self._question(" ".join(instruction.split()))},
        ]
        self.attempts, found = [], {}
        for seed in range(self.n):
            attempt = self._attempt(asked, instruction, seed)
            if attempt.spec is None:
                again = [
                    *asked,
                    {"role": "assistant", "content": attempt.reply[:2000] or "(nothing)"},
                    {"role": "user", "content": f"{attempt.error}. Answer with corrected JSON."},
                ]
                attempt = self._attempt(again, instruction, seed)
            if attempt.spec is not None:
                found.setdefault(attempt.spec.terms, attempt.spec)
        if not found:
            last = self.attempts[-1]
            raise Malformed(
                f"{self.model.name} wrote no valid reward for {instruction[:80]!r} in "
                f"{len(self.attempts)} replies; the last was {last.reply[:200]!r}: {last.error}"
            )
        return list(found.values())

    def _question(self, instruction: str) -> str:
        features = [
            f"{name}: 0 or 1" if bit else f"{name}: {low:g} to {high:g}"
            for name, (low, high, bit) in self.ranges.items()
        ]
        about = f"{self.about}\n" if self.about else ""
        return f"{about}Features:\n" + "\n".join(features) + f"\n\nInstruction: {instruction}"

    def _attempt(self, messages: Messages, instruction: str, seed: int) -> Attempt:
        reply = ""
        try:
            reply = self.model.generate(
                messages,
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                schema=reward_schema(self.ranges) if self._schema else None,
                seed=seed,
            )
            terms = RewardSpec.from_json(check_json(self.model.name, reply)).terms
            source = {"model": self.model.name, "seed": seed}
            spec = RewardSpec(terms, instruction, source)
            spec.compile(sample_features(self.ranges))
        except (ExpressionError, Malformed) as error:
            attempt = Attempt(reply, None, str(error))
        else:
            attempt = Attempt(reply, spec, "")
        self.attempts.append(attempt)
        return attempt
