"""Bounds on what is sent to a model and what is taken from it."""

from worldblocks.language.model import Malformed, Messages

MAX_PROMPT = 100_000  # characters of one conversation, context or text
MAX_TOKENS = 8192  # of one reply
MAX_REPLY = 1_000_000  # bytes of one HTTP reply, and characters of a text taken from it
MAX_TEXTS = 10_000  # in one call
ROLES = ("system", "user", "assistant")


def check_conversation(asker: str, messages: Messages, max_tokens: int, temperature: float) -> None:
    """Raise a sentence unless a conversation may be sent to a model."""
    if not messages:
        raise ValueError(f"{asker} got no messages; it answers the last of at least one")
    for message in messages:
        if set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise ValueError(
                f"{asker} got a message with {dict(message)!r:.200}; a message has a role "
                f"({', '.join(ROLES)}) and content"
            )
    check_length(asker, sum(len(message["content"]) for message in messages))
    if not 1 <= max_tokens <= MAX_TOKENS:
        raise ValueError(f"{asker} takes max_tokens from 1 to {MAX_TOKENS}, got {max_tokens}")
    if not 0 <= temperature <= 10:
        raise ValueError(f"{asker} takes a temperature from 0 to 10, got {temperature}")


def check_texts(asker: str, texts: list[str]) -> None:
    """Raise a sentence unless texts may be given to a model in one call."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"{asker} takes 1 to {MAX_TEXTS} texts in a call, got {len(texts)}")
    for text in texts:
        check_length(asker, len(text))


def check_pairs(asker: str, contexts: list[str], completions: list[str]) -> None:
    """Raise a sentence unless contexts and completions may be scored in one call."""
    if len(contexts) != len(completions):
        raise ValueError(
            f"{asker} got {len(contexts)} contexts and {len(completions)} completions; it takes "
            f"one context for each completion, repeated where they share it"
        )
    check_texts(asker, contexts)
    check_texts(asker, completions)
    if empty := [i for i, completion in enumerate(completions) if not completion]:
        raise ValueError(
            f"{asker} got completion {empty[0]} empty; it has no log-probability: leave it out"
        )


def check_length(asker: str, length: int) -> None:
    """Raise a sentence unless a prompt has a length that may be sent."""
    if length > MAX_PROMPT:
        raise ValueError(
            f"{asker} got a prompt of {length} characters, the bound is {MAX_PROMPT}; shorten it"
        )


def check_reply(asker: str, text: object) -> str:
    """A reply that is text, not empty and not endless.

    Raises:
        Malformed: it is something else.
    """
    if not isinstance(text, str) or not text.strip():
        raise Malformed(f"{asker} replied with {text!r:.200} where a text was expected")
    if len(text) > MAX_REPLY:
        raise Malformed(f"{asker} replied with {len(text)} characters, the bound is {MAX_REPLY}")
    return text
