"""Language models behind one protocol: packaged, local, at an endpoint, cached."""

from worldblocks.language.cached import CachedLM
from worldblocks.language.endpoint import EndpointLM
from worldblocks.language.local import TransformersLM
from worldblocks.language.model import (
    LanguageError,
    LanguageModel,
    Malformed,
    Messages,
    MissingCapability,
    MissingModel,
    NotCached,
    Refused,
    TimedOut,
    Unavailable,
    require,
)
from worldblocks.language.packaged import PackagedLM
from worldblocks.language.policy import Judged, LanguagePolicy
from worldblocks.language.sentences import SentenceEncoder
from worldblocks.language.spoken import BABYAI_COMMANDS, Prompted, glam_prompt, read_prompts
from worldblocks.language.untrained import untrained_llama

__all__ = [
    "BABYAI_COMMANDS",
    "CachedLM",
    "EndpointLM",
    "Judged",
    "LanguageError",
    "LanguageModel",
    "LanguagePolicy",
    "Malformed",
    "Messages",
    "MissingCapability",
    "MissingModel",
    "NotCached",
    "PackagedLM",
    "Prompted",
    "Refused",
    "SentenceEncoder",
    "TimedOut",
    "TransformersLM",
    "Unavailable",
    "glam_prompt",
    "read_prompts",
    "require",
    "untrained_llama",
]
