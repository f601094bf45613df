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
from worldblocks.language.sentences import SentenceEncoder

__all__ = [
    "CachedLM",
    "EndpointLM",
    "LanguageError",
    "LanguageModel",
    "Malformed",
    "Messages",
    "MissingCapability",
    "MissingModel",
    "NotCached",
    "PackagedLM",
    "Refused",
    "SentenceEncoder",
    "TimedOut",
    "TransformersLM",
    "Unavailable",
    "require",
]
