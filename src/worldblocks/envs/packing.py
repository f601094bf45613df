"""Arrays and a few plain values as one bytes object, without pickle."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_MAGIC = b"WBS1"


def pack(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Pack `values` (as JSON) and uint8 `arrays`; equal inputs give equal bytes.

    >>> values, arrays = unpack(pack({"step": 3}, {"frame": np.arange(4, dtype=np.uint8)}))
    >>> values, arrays["frame"].tolist()
    ({'step': 3}, [0, 1, 2, 3])
    """
    raw = b"".join(np.ascontiguousarray(array, np.uint8).tobytes() for array in arrays.values())
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    head = json.dumps({"values": values, "shapes": shapes}).encode()
    body = struct.pack("<I", len(head)) + head + zlib.compress(raw, 1)
    return _MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def unpack(state: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The values and arrays given to `pack`.

    Raises:
        ValueError: the bytes are truncated, altered, or not from `pack`.
    """
    body = state[8:]
    if state[:4] != _MAGIC or state[4:8] != struct.pack("<I", zlib.crc32(body)):
        raise ValueError(
            f"asked to restore an environment from {len(state)} bytes that are damaged or not "
            f"an environment state; give the result of get_state()"
        )
    end = 4 + struct.unpack("<I", body[:4])[0]
    head, raw = json.loads(body[4:end]), zlib.decompress(body[end:])
    arrays, at = {}, 0
    for name, shape in head["shapes"].items():
        size = int(np.prod(shape))
        arrays[name] = np.frombuffer(raw, np.uint8, size, at).reshape(shape).copy()
        at += size
    return head["values"], arrays
