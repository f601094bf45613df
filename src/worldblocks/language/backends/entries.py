"""Lines of a cache file: request, reply and the key that is the hash of the request."""

import base64
import hashlib
import itertools
import json
import math
from typing import Any

import numpy as np

DIGITS = 5  # of a log-probability in nats: another batch size changes it by up to 1e-5


def key_of(entry: dict[str, Any]) -> str:
    """SHA-256 of everything but the reply.

    >>> key_of({"name": "m", "reply": "a"}) == key_of({"name": "m", "reply": "b", "key": "k"})
    True
    """
    asked = {name: value for name, value in entry.items() if name not in ("key", "reply")}
    text = json.dumps(asked, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def scored(contexts: list[str], completions: list[str]) -> dict[str, Any]:
    """The arguments of `score`, with the common prefix of all contexts written once."""
    shared = itertools.takewhile(lambda x: len(set(x)) == 1, zip(*contexts, strict=False))
    common = len(list(shared))
    rests = [context[common:] for context in contexts]
    return {"context": contexts[0][:common], "contexts": rests, "completions": completions}


def valid(entry: Any) -> bool:
    """Whether a parsed line is a complete entry."""
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        return False
    reply, method = entry.get("reply"), entry.get("method")
    if method == "generate":
        return isinstance(reply, str) and bool(reply.strip())
    if method == "score":
        whole = isinstance(reply, list) and len(reply) == len(entry.get("completions", ()))
        return whole and all(isinstance(x, float | int) and math.isfinite(x) for x in reply)  # type: ignore[union-attr]
    return method == "embed" and isinstance(reply, str)


def pack(vector: np.ndarray) -> str:
    """A vector as text: half precision, little-endian, base64.

    >>> unpack(pack(np.array([1.0, -0.5, 0.1]))).tolist()
    [1.0, -0.5, 0.0999755859375]
    """
    return base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii")


def unpack(text: str) -> np.ndarray:
    """The vector of `pack`, in single precision."""
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
