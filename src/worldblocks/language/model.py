"""What a language model is to the rest of the library: four capabilities, and typed errors."""

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
    """What went wrong between us and a language model; the errors below say which."""


class MissingCapability(LanguageError):
    """A backend was asked for what it cannot do; names the backends that can."""

    def __init__(self, name: str, capability: str):
        able = " or ".join(BACKENDS[capability])
        super().__init__(f"{name} cannot {capability}; {able} can")


class MissingModel(LanguageError):
    """A model or package is not on this machine; names the command that installs it."""


class TimedOut(LanguageError):
    """No answer within the time limit, after all retries."""


class Unavailable(LanguageError):
    """No connection, too many requests (429) or a server's fault (5xx), after all retries."""


class Refused(LanguageError):
    """The endpoint will not serve this request: any other status, such as 401; not retried."""


class Malformed(LanguageError):
    """A reply that is not what was asked for: no JSON, no text, or more than the bound."""


class NotCached(LanguageError):
    """An offline cache has no reply to this question."""


@runtime_checkable
class LanguageModel(Protocol):
    """A language model by what it can do: `capabilities`, of `generate score embed train`.

    A backend inherits from this class and defines the methods of its capabilities; those that it
    leaves out raise `MissingCapability`. There is no silent substitute. `train` means that
    `LanguagePolicy` can fine-tune its network.

    `identity` says which model answers, to the last bit: a hash of its weights, or the address of
    an endpoint and the model asked for there. With `name` it is part of the keys of `CachedLM`.
    """

    name: str
    capabilities: frozenset[str]

    @property
    def identity(self) -> str:
        """What a cache knows the model by; "" is not known, and cannot be cached."""
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
            messages: dicts of `role` and `content`, the last one to be answered.
            max_tokens: the longest reply, in tokens of the model.
            temperature: 0 takes the likeliest token each time.
            schema: a JSON schema that the reply should follow, for backends that can.
            seed: of the draws at a temperature above 0.

        Raises:
            LanguageError: one of its kinds.
        """
        raise MissingCapability(self.name, "generate")

    def score(self, contexts: list[str], completions: list[str]) -> Float[Tensor, " pairs"]:
        """The log-probability of each completion after its context, in nats, summed over tokens.

        Of the log-softmax in float32. A context that is given many times is run once.
        """
        raise MissingCapability(self.name, "score")

    def embed(self, texts: list[str]) -> Float[Tensor, "texts embed"]:
        """One vector of length 1 for each text, so that a dot product is a cosine."""
        raise MissingCapability(self.name, "embed")


def require(model: LanguageModel, *capabilities: str) -> None:
    """Check before a long run that a model can do what will be asked of it.

    Raises:
        MissingCapability: for the first that it lacks.
    """
    for capability in capabilities:
        if capability not in model.capabilities:
            raise MissingCapability(model.name, capability)
