"""The protocol of language models: four capabilities, and typed errors."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Messages = Sequence[Mapping[str, str]]
"""A conversation: each message has a `role` (system, user, assistant) and a `content`."""

BACKENDS = {
    "follow a schema": ("EndpointLM",),
    "generate": ("PackagedLM", "TransformersLM", "EndpointLM"),
    "score": ("PackagedLM", "TransformersLM"),
    "embed": ("SentenceEncoder",),
    "train": ("PackagedLM", "TransformersLM"),
}


class LanguageError(RuntimeError):
    """Base class of the errors of language models."""


class MissingCapability(LanguageError):
    """The backend lacks a capability; names the backends that have it."""

    def __init__(self, name: str, capability: str, hint: str = ""):
        able = " or ".join(BACKENDS[capability])
        super().__init__(f"{name} cannot {capability}; {able} can{hint}")


class MissingModel(LanguageError):
    """A model or package is not installed; gives the command that installs it."""


class TimedOut(LanguageError):
    """No answer within the time limit after all retries."""


class Unavailable(LanguageError):
    """No connection, too many requests (429) or a server error (5xx), after all retries."""


class Refused(LanguageError):
    """The endpoint refused the request with another status, such as 401; not retried."""


class Malformed(LanguageError):
    """The reply has the wrong form: not JSON, empty, or too long."""


class NotCached(LanguageError):
    """An offline cache has no reply to this request."""


@runtime_checkable
class LanguageModel(Protocol):
    """A language model with `capabilities` among `generate`, `score`, `embed` and `train`.

    A backend inherits from this class and overrides the methods of its capabilities. The others
    raise `MissingCapability`. `train` means that `LanguagePolicy` can fine-tune the network.

    `identity` identifies the exact model: a hash of its weights, or the address of an endpoint and
    the model name there. `CachedLM` uses `name` and `identity` in its keys. `follows_schemas` is
    False where `generate` refuses a schema.
    """

    name: str
    capabilities: frozenset[str]
    follows_schemas: bool = True

    @property
    def identity(self) -> str:
        """The exact model, for the keys of a cache; "" if unknown, which cannot be cached."""
        return ""

    def generate(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> str:
        """The reply to a conversation.

        Args:
            messages: dicts of `role` and `content`; the reply answers the last one.
            max_tokens: maximum length of the reply, in tokens of the model.
            temperature: 0 takes the most probable token each time.
            schema: a JSON schema for the reply, if the backend supports one.
            seed: for sampling at a temperature above 0.

        Raises:
            LanguageError: one of its subclasses.
        """
        raise MissingCapability(self.name, "generate")

    def score(self, contexts: list[str], completions: list[str]) -> Float[Tensor, " pairs"]:
        """The log-probability of each completion after its context, in nats, summed over tokens.

        The log-softmax is computed in float32. A repeated context is run once.
        """
        raise MissingCapability(self.name, "score")

    def embed(self, texts: list[str]) -> Float[Tensor, "texts embed"]:
        """One vector of length 1 per text, so that a dot product is a cosine."""
        raise MissingCapability(self.name, "embed")


def require(model: LanguageModel, *capabilities: str) -> None:
    """Check that a model has the capabilities, for example before a long run.

    Raises:
        MissingCapability: names the first one it lacks.
    """
    for capability in capabilities:
        if capability not in model.capabilities:
            raise MissingCapability(model.name, capability)
