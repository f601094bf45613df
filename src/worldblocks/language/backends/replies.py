"""The JSON in a model's reply, among whatever else the model wrote."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from worldblocks.language.model import Malformed

_THOUGHT = re.compile(r"<(/?)(?:think|thinking|thought|reasoning)>")
_OPENER = {"array": re.compile(r"\["), "object": re.compile(r'\{(?=\s*(?:["}]|\Z))')}  # not {x}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)  # a string or a bracket
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)  # a string or a comma too many


def check_json(
    asker: str, reply: str, schema: Mapping[str, Any] | None = None, *, cut: bool | None = None
) -> str:
    """The one JSON object in a reply: the reply itself if it is JSON, or a part of it.

    Left out are a byte order mark, a code fence, prose before and after, thoughts in `<think>` or
    the like, and a comma before a closing bracket.

    Args:
        asker: name of the model, for messages.
        reply: its reply.
        schema: what was asked for; an array is looked for instead where its `type` is "array".
        cut: whether the reply was cut at `max_tokens`; None if that is not known.

    Raises:
        Malformed: there is no object, more than one, or one that is not JSON or was cut.

    >>> check_json("a model", 'Sure!\\n```json\\n{"go": [1, 2,]}\\n```')
    '{"go": [1, 2]}'
    """
    try:
        json.loads(reply)
        return reply
    except (ValueError, RecursionError):
        pass
    kind = "array" if schema is not None and schema.get("type") == "array" else "object"
    found, reason, ends = [], "", True
    for part in _parts(reply, kind):
        if part is None:
            ends = False
            continue
        plain = _COMMA.sub(r"\1", part)
        try:
            json.loads(plain)
            found.append(plain)
        except (ValueError, RecursionError) as error:
            reason = f"the {kind} in it is not JSON ({str(error)[:80]})"
    if len(found) == 1 and ends and not reason:
        return found[0]
    if (cut is not False and not ends) or (cut and not found and not reason):
        reason = f"it was cut before the {kind} was whole; give more max_tokens"
    elif not ends:
        reason = f"the {kind} in it does not end"
    elif len(found) > 1:
        reason = f"it has {len(found)} {kind}s, and one was asked for"
    reason = reason or f"it has no {kind}"
    raise Malformed(f"{asker} was asked for JSON and replied with {reply!r:.200}: {reason}")


def _parts(text: str, kind: str) -> Iterator[str | None]:
    """Each outermost object or array after the thoughts of a text; None if one does not end."""
    end, ends = 0, True
    for tag in _THOUGHT.finditer(text):  # the first may be missing: it is in the prompt
        ends, end = bool(tag[1]), tag.end()
    while ends and (begin := _OPENER[kind].search(text, end)):
        depth, ends = 0, False
        for token in _TOKEN.finditer(text, begin.start()):
            depth += (token[0] in "{[") - (token[0] in "}]")
            if not depth:
                end, ends = token.end(), True
                yield text[begin.start() : end]
                break
    if not ends:
        yield None
