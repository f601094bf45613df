"""A nested state as named tensors and a JSON skeleton, and back.

Tensors are named by their path, `agent/encoder.conv.weight`; "/" and "~" inside a key are written
"~1" and "~0" (RFC 6901). Everything else is in the skeleton, where an object with one key gives the
type of an entry: `{"tensor": name}`, `{"dict": {...}}`, `{"items": [[key, value], ...]}`, ...
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (bool, int, float, str, type(None))


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Tensors by path, on the CPU, and the skeleton that `unflatten` reads.

    Raises:
        TypeError: An entry has a type that a checkpoint cannot hold.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _encode(state, "", tensors)


def unflatten(skeleton: Any, fetch: Callable[[str], Tensor] | None) -> Any:
    """Rebuild a state; `fetch` returns a tensor by name, and None puts None in place of each."""
    if isinstance(skeleton, list):
        return [unflatten(part, fetch) for part in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, content),) = skeleton.items()
    if kind == "dict":
        return {key: unflatten(part, fetch) for key, part in content.items()}
    if kind == "items":
        return {key: unflatten(part, fetch) for key, part in content}
    if kind == "tuple":
        return tuple(unflatten(part, fetch) for part in content)
    if fetch is None:
        return None
    tensor = fetch(content)
    if kind == "bytes":
        return tensor.numpy().tobytes()
    if kind == "array":
        return tensor.numpy()
    return tensor.numpy()[()] if kind == "scalar" else tensor


def escape(key: object) -> str:
    """Quote a key for use in a path."""
    return str(key).replace("~", "~0").replace("/", "~1")


def unescape(name: str) -> str:
    """The inverse of `escape`."""
    return name.replace("~1", "/").replace("~0", "~")


def _encode(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if type(value) in PLAIN:
        return value
    if isinstance(value, Mapping):
        return _encode_dict(value, path, tensors)
    if isinstance(value, list | tuple):
        parts = [_encode(part, _join(path, i), tensors) for i, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    kind, tensor = _as_tensor(value, path)
    while path in tensors:  # the keys 0 and "0" of one dict
        path += "~"
    # A copy: safetensors refuses tensors that share memory, as tied weights do.
    tensors[path] = tensor.detach().to("cpu", copy=True).contiguous()
    return {kind: path}


def _encode_dict(value: Mapping[Any, Any], path: str, tensors: dict[str, Tensor]) -> Any:
    strange = [key for key in value if type(key) not in (str, int)]
    if strange:
        raise TypeError(
            f"the dict at {path or 'the top'!r} has the key {strange[0]!r}; the keys of a "
            f"checkpoint are strings or integers"
        )
    parts = {key: _encode(part, _join(path, key), tensors) for key, part in value.items()}
    if all(type(key) is str for key in parts):
        return {"dict": parts}
    return {"items": [[key, part] for key, part in parts.items()]}


def _as_tensor(value: Any, path: str) -> tuple[str, Tensor]:
    if isinstance(value, Tensor):
        return "tensor", value
    if isinstance(value, bytes | bytearray):
        return "bytes", torch.from_numpy(np.frombuffer(value, np.uint8).copy())
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        native = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
        return "array" if isinstance(value, np.ndarray) else "scalar", torch.from_numpy(native)
    what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"{type(value)}"
    raise TypeError(
        f"{path or 'the state'!r} is {what}; a checkpoint holds tensors, numeric arrays, numbers, "
        f"strings, bytes, None, and lists, tuples and dicts of them"
    )


def _join(path: str, key: object) -> str:
    return f"{path}/{escape(key)}" if path else escape(key)
