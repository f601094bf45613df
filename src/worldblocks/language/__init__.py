"""Language models behind one protocol: packaged, local, at an endpoint, cached."""

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

__all__ = [
    "LanguageError",
    "LanguageModel",
    "Malformed",
    "Messages",
    "MissingCapability",
    "MissingModel",
    "NotCached",
    "Refused",
    "TimedOut",
    "Unavailable",
    "require",
]
