"""Reward specs: weighted sums of expressions, as data that goes through JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from jaxtyping import Float
from torch import Tensor

from worldblocks.language.rewards.compiled import RewardFunction
from worldblocks.language.rewards.expression import MOST_CHARACTERS, ExpressionError
from worldblocks.language.rewards.operators import FUNCTIONS

MOST_TERMS = 6
LARGEST_WEIGHT = 10.0
MOST_JSON = 20_000  # characters of a spec
MOST_TEXT = 1000  # characters of an instruction


@dataclass(frozen=True)
class RewardTerm:
    """One term: an expression, its weight, and the phrase of the menu it came from."""

    expr: str
    weight: float = 1.0
    phrase: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.expr, str) or not 0 < len(self.expr) <= MOST_CHARACTERS:
            _refuse(f"the expression {_short(self.expr)}", f"use 1 to {MOST_CHARACTERS} characters")
        number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not number or not abs(self.weight) <= LARGEST_WEIGHT:
            _refuse(f"the weight {_short(self.weight)}", f"use a number up to ±{LARGEST_WEIGHT:g}")
        if not isinstance(self.phrase, str) or len(self.phrase) > MOST_TEXT:
            _refuse(f"the phrase {_short(self.phrase)}", f"use up to {MOST_TEXT} characters")


@dataclass(frozen=True)
class RewardSpec:
    """A reward as data, never code; a language model may propose one.

    Attributes:
        terms: 1 to 6 expressions with weights up to ±10; the reward is their weighted sum.
        instruction: the sentence it was made for.
        source: its origin as JSON, such as the model and its scores.

    Raises:
        ExpressionError: a limit is exceeded. `compile` checks the expressions.

    >>> spec = RewardSpec((RewardTerm("near(speed, 1, 0.5)"),), "walk")
    >>> RewardSpec.from_json(spec.to_json()) == spec
    True
    """

    terms: tuple[RewardTerm, ...]
    instruction: str = ""
    source: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.terms, tuple) or not 1 <= len(self.terms) <= MOST_TERMS:
            _refuse("the terms", f"use a tuple of 1 to {MOST_TERMS} RewardTerm")
        if not isinstance(self.instruction, str) or len(self.instruction) > MOST_TEXT:
            _refuse("the instruction", f"use a text of up to {MOST_TEXT} characters")
        if not any(term.weight for term in self.terms):
            _refuse("weights that are all 0", "give one of them another weight")

    def to_json(self, indent: int | None = None) -> str:
        """The spec as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "RewardSpec":
        """The spec of a JSON text from `to_json` or a language model.

        Raises:
            ExpressionError: it is not JSON, is too long, has other keys or exceeds a limit.
        """
        data = _loaded(text)
        _check_keys("a reward spec", data, {"terms", "instruction", "source"}, {"terms"})
        terms = data["terms"]
        if not isinstance(terms, list) or not 1 <= len(terms) <= MOST_TERMS:
            _refuse(f"the terms {_short(terms)}", f"use a list of 1 to {MOST_TERMS} objects")
        for term in terms:
            _check_keys("a term", term, {"expr", "weight", "phrase"}, {"expr"})
        source = data.get("source", {})
        if not isinstance(source, dict):
            _refuse(f"the source {_short(source)}", "use an object")
        parts = tuple(RewardTerm(**term) for term in terms)
        return cls(parts, data.get("instruction", ""), source)

    def compile(self, sample: Mapping[str, Float[Tensor, "*batch"]]) -> RewardFunction:
        """Check every term on sample values of the features and return the reward function.

        Args:
            sample: typical values of each feature, at least two rows; the last axis is time for
                `rise` and `delta`. Its keys are the names that an expression may use.
                `sample_features` gives values over the whole range of a menu's features.

        Raises:
            ExpressionError: an expression is invalid, names an unknown feature, or is not finite,
                constant or far out of range on the sample.
        """
        terms = [(term.expr, float(term.weight)) for term in self.terms]
        return RewardFunction(terms, sample)


def reward_schema(features: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON schema of a spec, for models that follow one; names the features if given."""
    about = f"functions: {', '.join(f.usage for f in FUNCTIONS.values())}"
    if features:
        about = f"features: {', '.join(features)}; {about}"
    term = {
        "type": "object",
        "properties": {
            "expr": {
                "type": "string",
                "minLength": 1,
                "maxLength": MOST_CHARACTERS,
                "description": about,
            },
            "weight": {"type": "number", "minimum": -LARGEST_WEIGHT, "maximum": LARGEST_WEIGHT},
        },
        "required": ["expr", "weight"],
        "additionalProperties": False,
    }
    terms = {"type": "array", "minItems": 1, "maxItems": MOST_TERMS, "items": term}
    return {
        "type": "object",
        "properties": {"terms": terms},
        "required": ["terms"],
        "additionalProperties": False,
    }


def _loaded(text: Any) -> Any:
    if not isinstance(text, str) or len(text) > MOST_JSON:
        _refuse(f"a spec of {_short(text)}", f"use JSON of up to {MOST_JSON} characters")
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as cause:
        reason = str(cause) if isinstance(cause, ValueError) else "it is nested too deeply"
        _refuse(f"{_short(text)}, which is not JSON ({reason[:80]})", 'use {"terms": [...]}')


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _check_keys(what: str, data: Any, allowed: set[str], needed: set[str]) -> None:
    if not isinstance(data, dict) or not needed <= data.keys() <= allowed:
        given = sorted(data)[:6] if isinstance(data, dict) else _short(data)
        _refuse(f"{what} with {given}", f"use an object of {sorted(allowed)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:47]}..."


def _refuse(problem: str, hint: str) -> NoReturn:
    raise ExpressionError(f"a reward spec got {problem}; {hint}") from None
