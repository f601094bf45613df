"""HTTP requests with a time limit, a size limit on the reply, and retries."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple

from worldblocks.language.backends.limits import MAX_REPLY
from worldblocks.language.model import LanguageError, Malformed, Refused, TimedOut, Unavailable

RETRIED = (408, 425, 429)  # statuses below 500 that may pass
LONGEST_PAUSE = 60.0  # seconds between two attempts, whatever the server asks for


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Never sends the key to an address chosen by the server."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class RetryPolicy(NamedTuple):
    """Time limit of an attempt, number of retries, and the pauses between them."""

    timeout: float  # seconds for one attempt, from connecting to the last byte
    retries: int  # attempts after the first
    pause: float  # seconds before the second attempt; doubles before each later one


class _Invalid(Refused):
    """The server calls the request itself invalid."""


class _Retry(Exception):
    """An attempt failed and may be retried; carries the error to raise after the last one."""

    def __init__(self, error: LanguageError, after: float | None = None) -> None:
        super().__init__()
        self.error, self.after = error, after


def post_json(
    request: Callable[[], urllib.request.Request],
    *,
    asker: str,
    retry: RetryPolicy,
    redact: Callable[[str], str],
    hint: str = "",
) -> Any:
    """Post a request and return the JSON of its reply.

    Retries after a timeout, a failed connection, too many requests (429) or a server error (5xx),
    but not after any other status or a reply that is not JSON.

    Args:
        request: makes the request of one attempt; its secrets stay there.
        asker: name of the model, for messages.
        retry: time limit and retries.
        redact: removes secrets from a server's text.
        hint: what else to try if the server calls the request invalid (400, 422).

    Raises:
        TimedOut, Unavailable: the last attempt failed.
        Refused: any other status than 200.
        Malformed: the reply is not JSON, or larger than a megabyte.
    """
    tried = 0
    while True:
        try:
            text = _once(request, asker, retry.timeout, redact)
            break
        except _Invalid as refused:
            raise Refused(f"{refused}{hint}") from None
        except _Retry as failed:
            tried += 1
            if tried > retry.retries:
                times = f" (tried {tried} times)" if retry.retries else ""
                raise type(failed.error)(f"{failed.error}{times}") from None
            wait = retry.pause * 2 ** (tried - 1) if failed.after is None else failed.after
        time.sleep(min(wait, LONGEST_PAUSE))
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise Malformed(
            f"{asker} expected JSON, got {_shown(text)}; is this the address of an API?"
        ) from None


def _once(
    request: Callable[[], urllib.request.Request],
    asker: str,
    timeout: float,
    redact: Callable[[str], str],
) -> str:
    """The text of the reply to one attempt."""
    deadline = time.monotonic() + timeout
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request(), timeout=timeout) as response:
            return _read(response, asker, deadline, redact)
    except urllib.error.HTTPError as error:
        raise _status(error, asker, deadline, redact) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _Retry(TimedOut(f"{asker} gave no answer within {timeout:g} s")) from None
        said = _shown(redact(f"{type(reason).__name__}: {reason}"))
        raise _Retry(Unavailable(f"{asker} could not be reached: {said}")) from None


def _read(response: Any, asker: str, deadline: float, redact: Callable[[str], str]) -> str:
    """The body, if it arrives in time and is not too large."""
    body = b""
    while piece := response.read1(1 << 16):
        body += piece
        if len(body) > MAX_REPLY:
            raise Malformed(f"{asker} sent more than {MAX_REPLY} bytes; the rest is not read")
        if time.monotonic() > deadline:
            raise TimeoutError
    if getattr(response, "length", None):  # bytes announced but not received
        raise http.client.IncompleteRead(b"", response.length)
    return redact(body.decode("utf-8", "replace"))


def _status(
    error: urllib.error.HTTPError, asker: str, deadline: float, redact: Callable[[str], str]
) -> Exception:
    """The error for a status other than 200."""
    with error:
        try:
            said = _shown(_read(error, asker, deadline, redact))
        except (OSError, http.client.HTTPException, Malformed):
            said = "no readable text"
    text = f"{asker} answered with status {error.code}: {said}"
    if error.code >= 500 or error.code in RETRIED:
        after = error.headers.get("Retry-After", "")
        return _Retry(Unavailable(text), float(after) if after.isdigit() else None)
    if error.code in (401, 403):
        text += "; check the key in the environment variable that api_key_env names"
    if 300 <= error.code < 400:
        text += "; redirects are not followed: give the final address"
    return (_Invalid if error.code in (400, 422) else Refused)(text)


def _shown(text: str) -> str:
    """The beginning of a server's text, on one line and quoted."""
    text = " ".join(text.split())
    return repr(text if len(text) <= 200 else f"{text[:200]}…")
