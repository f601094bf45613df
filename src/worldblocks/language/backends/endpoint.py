"""A language model behind a server with OpenAI's protocol, local or remote."""

import json
import os
import re
import urllib.parse
import urllib.request
from typing import Any

from worldblocks.language.backends.limits import check_conversation, check_reply
from worldblocks.language.backends.replies import check_json
from worldblocks.language.backends.transport import RetryPolicy, post_json
from worldblocks.language.model import LanguageModel, Malformed, Messages, MissingModel

_NO_SCHEMA = (
    "; if the server knows no response_format json_schema, ask without a schema: "
    "Writer(model, ranges, schema=False) states it in the prompt"
)


class EndpointLM(LanguageModel):
    """Any OpenAI-compatible server: `generate`, with or without a JSON schema.

    Posts to `<base_url>/chat/completions`. Retries after a timeout, a failed connection, 429 or
    5xx, with doubling pauses; any other status or a malformed reply raises at once. Redirects are
    not followed. Prompts, replies and pauses are limited.

    The key comes from an environment variable and is read for each request. It is not stored in
    the object and never appears in its `repr`, its identity, a cache, a log or an error, even if
    the server quotes it.

    Args:
        base_url: such as `https://api.openai.com/v1` or `http://127.0.0.1:8080/v1`.
        model: the name of the model on the server.
        api_key_env: the name of the environment variable with the key; None sends no key.
        timeout: seconds for one attempt.
        retries: attempts after the first.
        pause: seconds before the second attempt.

    Raises:
        ValueError: an invalid address, one with a password, or a name that looks like a key.
        MissingModel: the environment variable is not set.

    >>> EndpointLM("http://127.0.0.1:8080/v1", "qwen")
    EndpointLM('http://127.0.0.1:8080/v1', 'qwen')
    """

    capabilities = frozenset({"generate"})

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout: float = 60.0,
        retries: int = 2,
        pause: float = 1.0,
    ) -> None:
        _check_address(base_url)
        if api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", api_key_env):
            raise ValueError(  # without quoting it: it may be the key
                "EndpointLM takes the name of an environment variable as api_key_env, in capitals "
                "such as OPENAI_API_KEY, and never the key itself"
            )
        if timeout <= 0 or retries < 0 or pause < 0:
            raise ValueError(
                f"EndpointLM takes a timeout above 0 and retries and a pause of 0 or more, got "
                f"timeout={timeout}, retries={retries}, pause={pause}"
            )
        self.base_url, self.model, self.name = base_url.rstrip("/"), model, f"endpoint:{model}"
        self._api_key_env = api_key_env
        self._retry = RetryPolicy(timeout, retries, pause)
        self._key()

    def __repr__(self) -> str:
        return f"EndpointLM({self.base_url!r}, {self.model!r})"

    @property
    def identity(self) -> str:
        """The address, and the name of the model there."""
        return f"{self.base_url} {self.model}"

    def generate(
        self,
        messages: Messages,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> str:
        """See `LanguageModel.generate`; with a schema, the JSON in the reply.

        The schema is sent as `response_format`. A server that ignores it may add a code fence,
        prose or thoughts around the JSON, which are left out.

        Raises:
            TimedOut, Unavailable, Refused, Malformed: see `EndpointLM`.
        """
        check_conversation(self.name, messages, max_tokens, temperature)
        body: dict[str, Any] = {"model": self.model, "messages": [dict(m) for m in messages]}
        body |= {"max_tokens": max_tokens, "temperature": temperature}
        body |= {} if seed is None else {"seed": seed}
        if schema is not None:
            form = {"name": "reply", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        data = json.dumps(body).encode()
        found = post_json(
            lambda: self._request(data),
            asker=self.name,
            retry=self._retry,
            redact=self._redact,
            hint="" if schema is None else _NO_SCHEMA,
        )
        content, cut = _content(self.name, self._redact, found)
        if cut and not content:
            raise Malformed(
                f"{self.name} was cut at max_tokens={max_tokens} before it said anything; give "
                f"more max_tokens, as a model that thinks first needs"
            )
        reply = self._redact(check_reply(self.name, content))
        return reply if schema is None else check_json(self.name, reply, schema, cut=cut)

    def _request(self, data: bytes) -> urllib.request.Request:
        request = urllib.request.Request(f"{self.base_url}/chat/completions", data=data)
        request.add_header("Content-Type", "application/json")
        if self._api_key_env is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self._key()}")
        return request

    def _key(self) -> str:
        """The key; one that would break the header is refused, since that error would quote it."""
        if self._api_key_env is None:
            return ""
        key = os.environ.get(self._api_key_env, "").strip()
        if not key:
            raise MissingModel(
                f"{self.name} needs a key: export {self._api_key_env}=… in the shell"
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise ValueError(
                f"the key in {self._api_key_env} has characters that a key cannot have, such as a "
                f"space or a line break; set it again"
            )
        return key

    def _redact(self, text: str) -> str:
        key = self._key()
        return text.replace(key, "<key>") if key else text


def _content(asker: str, redact: Any, found: Any) -> tuple[Any, bool | None]:
    """The text inside a chat completion, and whether it was cut; None if the server says nothing.

    Some servers send the text in parts, such as thoughts and the answer.
    """
    try:
        choice = found["choices"][0]
        content, ended = choice["message"]["content"], choice.get("finish_reason")
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part.get("type") == "text")
    except (LookupError, TypeError, AttributeError):
        said = redact(json.dumps(found))[:200]
        raise Malformed(
            f"{asker} replied without choices[0].message.content: {said}; does the server "
            f"speak OpenAI's protocol?"
        ) from None
    return content, None if ended is None else ended == "length"


def _check_address(base_url: str) -> None:
    parts = urllib.parse.urlsplit(base_url)
    if parts.password or parts.username or parts.query or parts.fragment:
        raise ValueError(
            f"EndpointLM got an address at {parts.hostname!r} with a password or a query, which "
            f"would be written to logs; keys come from the environment: api_key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"EndpointLM takes an address such as 'http://127.0.0.1:8080/v1', got {base_url!r}"
        )
