"""One HTTP request with a time limit, a bound on the reply, and retries where they can help."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from worldblocks.language.backends.limits import MAX_REPLY
from worldblocks.language.model import LanguageError, Malformed, Refused, TimedOut, Unavailable

AGAIN = (408, 425, 429)  # of the statuses below 500, those that a later request may not see
LONGEST_PAUSE = 60.0  # seconds between two tries, whatever the server asks for


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is not sent to an address that a server names."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Patience(NamedTuple):
    """How long to wait for an answer, and how often to ask again."""

    timeout: float  # seconds for one try, from connecting to the last byte
    retries: int  # tries after the first
    pause: float  # seconds before the second try; twice as long before each one after it


class _Again(Exception):
    """A try failed in a way that another may not; carries the error to raise in the end."""

    def __init__(self, error: LanguageError, after: float | None = None) -> None:
        super().__init__()
        self.error, self.after = error, after


def post_json(
    request: Callable[[], urllib.request.Request],
    *,
    asker: str,
    patience: Patience,
    redact: Callable[[str], str],
) -> Any:
    """Post a request and give the JSON of its reply.

    Tries again after a timeout, a failed connection, too many requests (429) and a server's fault
    (5xx); after any other status, and after a reply that is no JSON, it does not.

    Args:
        request: makes the request of one try; whatever is secret in it stays there.
        asker: who asks, for messages.
        patience: time limit and retries.
        redact: takes secrets out of what a server said.

    Raises:
        TimedOut, Unavailable: still after the last try.
        Refused: any other status than 200.
        Malformed: no JSON, or more than a megabyte.
    """
    tried = 0
    while True:
        try:
            text = _once(request, asker, patience.timeout, redact)
            break
        except _Again as failed:
            tried += 1
            if tried > patience.retries:
                times = f" (tried {tried} times)" if patience.retries else ""
                raise type(failed.error)(f"{failed.error}{times}") from None
            wait = patience.pause * 2 ** (tried - 1) if failed.after is None else failed.after
        time.sleep(min(wait, LONGEST_PAUSE))
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed(
            f"{asker} expected JSON, got {_shown(text)}; is the address that of an API?"
        ) from None


def _once(
    request: Callable[[], urllib.request.Request],
    asker: str,
    timeout: float,
    redact: Callable[[str], str],
) -> str:
    """One try: the text of the reply."""
    deadline = time.monotonic() + timeout
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request(), timeout=timeout) as response:
            return _read(response, asker, deadline, redact)
    except urllib.error.HTTPError as error:
        raise _status(error, asker, deadline, redact) from None
    except TimeoutError:
        raise _Again(TimedOut(f"{asker} gave no answer within {timeout:g} s")) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _Again(TimedOut(f"{asker} gave no answer within {timeout:g} s")) from None
        said = _shown(redact(f"{type(reason).__name__}: {reason}"))
        raise _Again(Unavailable(f"{asker} could not be reached: {said}")) from None


def _read(response: Any, asker: str, deadline: float, redact: Callable[[str], str]) -> str:
    """The body, as long as it comes in time and has a size that one keeps in memory."""
    body = b""
    while piece := response.read1(1 << 16):
        body += piece
        if len(body) > MAX_REPLY:
            raise Malformed(f"{asker} sent more than {MAX_REPLY} bytes, and was cut off")
        if time.monotonic() > deadline:
            raise TimeoutError
    if getattr(response, "length", None):  # what is missing of the length that was announced
        raise http.client.IncompleteRead(b"", response.length)
    return redact(body.decode("utf-8", "replace"))


def _status(
    error: urllib.error.HTTPError, asker: str, deadline: float, redact: Callable[[str], str]
) -> Exception:
    """What a status other than 200 means."""
    with error:
        try:
            said = _shown(_read(error, asker, deadline, redact))
        except (OSError, http.client.HTTPException, Malformed):
            said = "no text that could be read"
    text = f"{asker} answered with status {error.code}: {said}"
    if error.code >= 500 or error.code in AGAIN:
        after = error.headers.get("Retry-After", "")
        return _Again(Unavailable(text), float(after) if after.isdigit() else None)
    if error.code in (401, 403):
        text += "; check the key in the environment variable that api_key_env names"
    if 300 <= error.code < 400:
        text += "; redirects are not followed: give the address itself"
    return Refused(text)


def _shown(text: str) -> str:
    """The beginning of what a server said, fit for a message."""
    text = " ".join(text.split())
    return repr(text if len(text) <= 200 else f"{text[:200]}…")
