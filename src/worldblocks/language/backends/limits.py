"""Limits on the prompts sent to a model and the replies taken from it."""

from worldblocks.language.model import Malformed, Messages

MAX_PROMPT = 100_000  # characters of one conversation, context or text
MAX_TOKENS = 8192  # of one reply
MAX_REPLY = 1_000_000  # bytes of one HTTP reply, and characters of a text taken from it
MAX_TEXTS = 10_000  # in one call
ROLES = ("system", "user", "assistant")


def check_conversation(asker: str, messages: Messages, max_tokens: int, temperature: float) -> None:
    """Refuse a conversation or options outside the limits."""
    if not messages:
        raise ValueError(f"{asker} got no messages; it answers the last of at least one")
    for message in messages:
        if set(message) != {"role", "content"} or message["role"] not in ROLES:
            raise ValueError(
                f"{asker} got the message {dict(message)!r:.200}; a message has a role "
                f"({', '.join(ROLES)}) and content"
            )
    _check_length(asker, sum(len(message["content"]) for message in messages))
    if not 1 <= max_tokens <= MAX_TOKENS:
        raise ValueError(f"{asker} takes max_tokens from 1 to {MAX_TOKENS}, got {max_tokens}")
    if not 0 <= temperature <= 10:
        raise ValueError(f"{asker} takes a temperature from 0 to 10, got {temperature}")


def check_texts(asker: str, texts: list[str]) -> None:
    """Refuse too many texts in one call, none, or one that is too long."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise ValueError(f"{asker} takes 1 to {MAX_TEXTS} texts in a call, got {len(texts)}")
    for text in texts:
        _check_length(asker, len(text))


def check_pairs(asker: str, contexts: list[str], completions: list[str]) -> None:
    """Refuse contexts and completions that cannot be scored in one call."""
    if len(contexts) != len(completions):
        raise ValueError(
            f"{asker} got {len(contexts)} contexts and {len(completions)} completions; it takes "
            f"one context per completion, repeated where completions share it"
        )
    check_texts(asker, contexts)
    check_texts(asker, completions)
    if empty := [i for i, completion in enumerate(completions) if not completion]:
        raise ValueError(
            f"{asker} got completion {empty[0]} empty, which has no log-probability; leave it out"
        )


def _check_length(asker: str, length: int) -> None:
    if length > MAX_PROMPT:
        raise ValueError(
            f"{asker} got a prompt of {length} characters, the limit is {MAX_PROMPT}; shorten it"
        )


def check_reply(asker: str, text: object) -> str:
    """The reply, if it is a text that is neither empty nor too long.

    Raises:
        Malformed: it is anything else.
    """
    if not isinstance(text, str) or not text.strip():
        raise Malformed(f"{asker} replied with {text!r:.200}, expected a text")
    if len(text) > MAX_REPLY:
        raise Malformed(f"{asker} replied with {len(text)} characters, the limit is {MAX_REPLY}")
    return text
